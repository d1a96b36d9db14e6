/* Rose in C99, after spec/SPEC.md: answers requests of the text protocol (spec/CONFORMANCE.md), a line each.
 *   cc -std=c99 -O2 -ffp-contract=off -o rose examples/ports/rose.c -lm   (no -ffast-math; 32-bit x86: -mfpmath=sse)
 *   python -m rose_spec run --program ./rose --format text */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
typedef struct { const char *name, *alias; int digits, precision, bias; } Format;
typedef struct { const Format *format; char *shape; size_t rank, rows, count; double *v; } Tensor;
static const Format FORMATS[] = {{"float64", "fp64", 16, 53, 1023}, {"float32", "fp32", 8, 24, 127},
                                 {"float16", "fp16", 4, 11, 15}, {"bfloat16", "bf16", 4, 8, 127}};
static const Format *const F64 = FORMATS, *const F32 = FORMATS + 1, *const BF16 = FORMATS + 3, *C;
static char *line, *fields[32]; /* a request; its id, then each key=value */

/* Every value is a double. A float32 operation is the double one, rounded to float32: as 53 >= 2 * 24 + 2, the two
 * roundings are as good as one (Figueroa, 1995). The last bit of v in the format f is worth 2**last_bit(v, f). */
static int last_bit(double v, const Format *f) { return (int)fmax(ilogb(v), 1 - f->bias) - f->precision + 1; }
static double cast(double v, const Format *f) {
    if (f == F64 || v == 0 || !isfinite(v)) return v;
    double rounded = ldexp(rint(ldexp(v, -last_bit(v, f))), last_bit(v, f)); /* ties to even */
    return fabs(rounded) >= ldexp(1, f->bias + 1) ? copysign(INFINITY, v) : rounded;
}
static double o(double v) { return cast(v, C == F64 ? F64 : F32); } /* ROSE-2.1 */
static double limit; /* ROSE-6.4 */
static double limited(double v) { return v > limit ? limit : v < -limit ? -limit : v; }
static double rc(double v) { return cast(o(v), C); } /* ROSE-2.2, ROSE-2.3 */
static uint64_t encode(double v, const Format *f) {
    uint64_t hidden = 1ULL << (f->precision - 1), word = (2ULL * f->bias + 1) * hidden; /* infinity */
    if (isnan(v)) return word + hidden / 2;
    if (isfinite(v)) word = (uint64_t)ldexp(fabs(v), -last_bit(v, f)) + hidden * (last_bit(v, f) - last_bit(0, f));
    return word | (uint64_t)(signbit(v) != 0) << (4 * f->digits - 1);
}
static double decode(uint64_t word, const Format *f) {
    uint64_t hidden = 1ULL << (f->precision - 1), low = word & (hidden - 1);
    int exponent = (int)(word / hidden) & (2 * f->bias + 1), normal = exponent > 0;
    double v = ldexp((double)(low + normal * hidden), exponent - normal + last_bit(0, f));
    if (exponent == 2 * f->bias + 1) v = low ? NAN : INFINITY;
    return word >> (4 * f->digits - 1) & 1 ? -v : v;
}
static double reproducible_sum(const double *x, size_t n) { /* ROSE-7.2 */
    double largest = 0, sum[3] = {0, 0, 0};
    int level = n > 4 ? ilogb((double)(n - 1)) + 1 : 2, folds = level <= 20 ? 2 : 3;
    for (size_t i = 0; i < n; i++) largest = isfinite(x[i]) ? fmax(largest, fabs(x[i])) : INFINITY;
    double sigma = 1.5 * ldexp((largest - nextafter(largest, 0)) * 0x1p52, level);
    for (size_t i = 0; i < n; i++) {
        double rest = x[i], s = sigma;
        for (int k = 0; k < folds; s = ldexp(s, level - 54)) { double q = (rest + s) - s; sum[k++] += q, rest -= q; }
    }
    return sum[0] + (sum[1] + sum[2]);
}
static void advance(double *x, double *g, size_t m, size_t n, int centralize, int stabilize, double minus_lr) {
    double *range = calloc(2 * m, sizeof *range), *squares = range + m;
    for (size_t i = 0; i < m; i++) {
        double *row = g + i * n, low = *row, high = *row; /* ROSE-4.1; it is enough that low is NaN */
        for (size_t j = 0; j < n; j++) low = isnan(low) || row[j] >= low ? low : row[j], high = fmax(high, row[j]);
        double mean = centralize ? rc(reproducible_sum(row, n) / (double)n) : 0; /* ROSE-4.2 */
        if (centralize) mean = isnan(mean) ? NAN : fmin(fmax(mean, low), high) + 0.0;
        for (size_t j = 0; j < n; j++) row[j] = rc(row[j] - mean);
        range[i] = rc(fabs(rc(high - mean)) - rc(low - mean)); /* ROSE-4.3 */
    }
    if (stabilize) { /* ROSE-5 */
        double mean = reproducible_sum(range, m) / (double)m, d;
        for (size_t i = 0; i < m; i++) squares[i] = (range[i] - mean) * (range[i] - mean);
        double std = rc(sqrt(reproducible_sum(squares, m) / (double)m)), w;
        mean = rc(mean), w = rc(mean / (mean == 0 ? 1 : rc(std + mean)));
        for (size_t i = 0; i < m; i++)
            d = o(range[i] - mean), range[i] = w < 0.5 ? rc(mean + o(w * d)) : rc(range[i] - o(d * o(1 - w)));
    }
    for (size_t i = 0; i < m * n; i++) /* ROSE-5.5, ROSE-6.1 */
        x[i] = rc(x[i] + limited(o(o(minus_lr * g[i]) / (range[i / n] == 0 ? 1 : range[i / n]))));
    free(range);
}
static const Format *format_named(const char *s) { /* ROSE-10.2 */
    for (const Format *f = F64; f <= BF16; f++) if (!strcasecmp(s, f->name) || !strcasecmp(s, f->alias)) return f;
    return NULL;
}
static char *field(const char *key, char *otherwise) {
    for (char **f = fields; *f; f++) if (!strncmp(*f, key, strlen(key))) return *f + strlen(key);
    return otherwise;
}
static double number(const char *key, double otherwise, double none) {
    char *value = field(key, NULL);
    return !value ? otherwise : !strcmp(value, "none") ? none : decode(strtoull(value, NULL, 16), F64);
}
static void read_tensor(const char *key, Tensor *t) { /* float32:2,3:3f800000,... */
    char *dtype = field(key, "::"), *p = strchr(dtype, ':') + 1, *words = strchr(p, ':') + 1;
    free(t->v), p[-1] = words[-1] = 0, *t = (Tensor){format_named(dtype), p, 0, 1, 1, NULL};
    for (size_t n; *p; p += *p == ',') n = strtoul(p, &p, 10), t->count *= n, t->rows = t->rank++ ? t->rows : n;
    t->v = calloc(t->count + 1, sizeof *t->v);
    for (size_t i = 0; i < t->count && t->format; words++) t->v[i++] = decode(strtoull(words, &words, 16), t->format);
}
static const char *step(void) { /* answers, or returns why it refuses */
    static Tensor p, grad;
    read_tensor("param=", &p), read_tensor("grad=", &grad);
    double lr = number("lr=", NAN, NAN), wd = number("weight_decay=", 1e-4, 0), ref = number("lr_reference=", 1, 1);
    double max_step = number("max_step=", INFINITY, INFINITY);
    char compute[16] = "", *name = field("compute_dtype=", "fp64"), *noise = field("noise=", NULL);
    sscanf(name + strspn(name, "%029AD"), "%15[^%]", compute); /* ROSE-10.2: blanks come as %20, %09, ... */
    C = strcasecmp(compute, "none") && strcasecmp(compute, "null") ? format_named(compute) : noise ? F32 : p.format;
    if (!p.format || !grad.format) return "a dtype other than float64, float32, float16, bfloat16";
    if (strcmp(p.shape, grad.shape)) return "param and grad of different shapes";
    if (!(lr >= 0 && lr < INFINITY)) return "an lr that is not a finite number >= 0";
    if (!(wd >= 0 && wd < INFINITY)) return "a weight_decay that is not a finite number >= 0";
    if (!(ref > 0 && ref < INFINITY)) return "an lr_reference that is not a finite number > 0";
    if (!(max_step > 0)) return "a max_step that is not a number > 0";
    if (!C) return "a compute_dtype other than fp64, fp32, fp16, bf16, none";
    if (noise && (p.format != BF16 || C->digits == 4)) return "noise where no wider value is rounded to bfloat16";
    double *x = p.v, *g = grad.v, decay = wd != 0 ? o(fmax(0, 1 - lr / ref * wd)) : 1; /* ROSE-3.2 */
    limit = isinf(max_step) ? INFINITY : o(lr * max_step);
    int negate = *field("maximize=", "0") == '1', matrix = p.rank > 1; size_t m = matrix ? p.rows : 1;
    for (size_t i = 0; i < p.count; i++) x[i] = rc(rc(x[i]) * decay), g[i] = rc(negate ? -g[i] : g[i]);
    if (!p.rank) *x = rc(*x + limited(o((isnan(*g) ? NAN : (*g > 0) - (*g < 0)) * rc(-lr)))); /* ROSE-6.2 */
    else if (p.count) advance(x, g, m, p.count / m, matrix && *field("centralize=", "1") == '1',
                              matrix && *field("stabilize=", "1") == '1', o(-lr));
    printf("%s param=%s:%s:", fields[0], p.format->name, p.shape);
    for (size_t i = 0; i < p.count; i++) { /* ROSE-6.3, ROSE-8 */
        uint32_t word = noise ? (uint32_t)strtoul(noise, &noise, 16) : 0;
        if (p.format != F64) x[i] = cast(x[i], F32);
        if (noise) noise++, x[i] = isnan(x[i]) ? NAN : decode(((uint32_t)encode(x[i], F32) + word) >> 16, BF16);
        printf(i ? ",%0*llx" : "%0*llx", p.format->digits, (unsigned long long)encode(cast(x[i], p.format), p.format));
    }
    return NULL;
}
static void threefry(const uint32_t key[2], uint32_t c0, uint32_t c1, uint32_t x[2]) { /* ROSE-9.1 */
    static const int distances[] = {13, 15, 26, 6, 17, 29, 16, 24};
    uint32_t k[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA};
    x[0] = c0 + k[0], x[1] = c1 + k[1];
    for (uint32_t i = 0; i < 20; i++) {
        x[0] += x[1], x[1] = (x[1] << distances[i % 8] | x[1] >> (32 - distances[i % 8])) ^ x[0];
        if (i % 4 == 3) x[0] += k[(i / 4 + 1) % 3], x[1] += k[(i / 4 + 2) % 3] + i / 4 + 1;
    }
}
static uint64_t integer(const char *key, int base) { return strtoull(field(key, "0"), NULL, base); }
static void noise(void) { /* ROSE-9.2, ROSE-9.3 */
    uint32_t key[2] = {(uint32_t)integer("seed=", 16), (uint32_t)(integer("seed=", 16) >> 32)}, x[2];
    threefry(key, (uint32_t)integer("step=", 16), (uint32_t)integer("index=", 16), key);
    printf("%s words=", fields[0]);
    for (uint64_t i = 0, count = integer("count=", 10); i < count; i++) {
        if (i % 4 == 0) threefry(key, (uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), x);
        printf(i ? ",%04x" : "%04x", x[i / 2 % 2] >> (i % 2 * 16) & 0xffff);
    }
}
int main(void) {
    for (size_t size = 0; getline(&line, &size, stdin) > 0; puts(""), fflush(stdout)) {
        char *kind = strtok(line, " \n"), **f = fields; const char *refusal;
        while ((*f = strtok(NULL, " \n")) && f < fields + 31) f++;
        if (strcmp(kind, "step")) noise();
        else if ((refusal = step())) printf("%s refused %s", fields[0], refusal);
    }
}
