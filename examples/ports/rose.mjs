// Rose in JavaScript, after spec/SPEC.md: answers requests of the JSON protocol (spec/CONFORMANCE.md), a line each.
// It needs node 18 or newer, nothing else. From the top folder of the repository:
//   python -m rose_spec run --program "node examples/ports/rose.mjs"
import { createInterface } from "node:readline";

// A number of JavaScript is a float64. A float32 operation is the float64 one, rounded by Math.fround: as
// 53 >= 2 * 24 + 2, the two roundings are as good as one (Figueroa, 1995).
const { abs, fround, max, min } = Math;
const view = new DataView(new ArrayBuffer(8));
const toWord = (value) => (view.setFloat32(0, value), view.getUint32(0));
const fromWord = (word) => (view.setUint32(0, word), view.getFloat32(0));
const signBit = (value) => (value < 0 || Object.is(value, -0) ? 0x8000 : 0);
const hex = (word, digits) => word.toString(16).padStart(digits, "0");

const withWord = (value, added) => (Number.isNaN(value) ? NaN : fromWord((toWord(value) + added) & 0xffff0000));
const toBfloat16 = (value) => withWord(value, 0x7fff + ((toWord(value) >>> 16) & 1)); // ties to even
function toFloat16(value) { // adding and taking away 1.5 * 2**52 last places rounds the rest off, ties to even
  const magic = 1.5 * 2 ** (52 + max(((toWord(value) >>> 23) & 255) - 127, -14) - 10);
  const magnitude = abs(value) + magic - magic;
  return (signBit(value) ? -1 : 1) * (magnitude > 65504 ? Infinity : magnitude);
}
function encodeFloat16(value) { // 2**112 is between the exponents of float32 and float16
  if (Number.isNaN(value)) return 0x7e00;
  return signBit(value) + (abs(value) < 65536 ? toWord(abs(value) * 2 ** -112) >>> 13 : 0x7c00);
}
function decodeFloat16(word) {
  const magnitude = fromWord((word & 0x7fff) << 13) * 2 ** 112;
  return (word >> 15 ? -1 : 1) * (magnitude < 65536 ? magnitude : word & 1023 ? NaN : Infinity);
}
const narrow = (digits, cast, decode, encode) => ({
  cast, decode: (word) => decode(parseInt(word, 16)), encode: (value) => hex(encode(value), digits),
});
const FORMATS = { // cast takes a float64, to 16 bits by way of float32 (ROSE-2.3); words are strings
  float64: {
    cast: (value) => value,
    decode: (word) => (view.setBigUint64(0, BigInt(`0x${word}`)), view.getFloat64(0)),
    encode: (value) => (view.setFloat64(0, value), hex(view.getBigUint64(0), 16)),
  },
  float32: narrow(8, fround, fromWord, toWord),
  float16: narrow(4, (value) => toFloat16(fround(value)), decodeFloat16, encodeFloat16),
  bfloat16: narrow(4, (value) => toBfloat16(fround(value)), (word) => fromWord(word << 16), (v) => toWord(v) >>> 16),
};
const NAMES = { fp64: "float64", fp32: "float32", fp16: "float16", bf16: "bfloat16" };
function reproducibleSum(values) { // ROSE-7.2
  const level = max(2, 32 - Math.clz32(values.length - 1));
  const largest = values.reduce((most, value) => max(most, abs(value)), 0); // NaN if there is one
  view.setFloat64(0, largest);
  view.setBigUint64(0, view.getBigUint64(0) - (largest > 0 ? 1n : 0n)); // the next value towards 0
  const sigma = 1.5 * 2 ** level * ((largest - view.getFloat64(0)) * 2 ** 52);
  const sums = [0, 0, 0];
  for (let rest of values) {
    for (let fold = 0, s = sigma; fold < (level <= 20 ? 2 : 3); fold++, s *= 2 ** (level - 54)) {
      const q = rest + s - s;
      [sums[fold], rest] = [sums[fold] + q, rest - q];
    }
  }
  return sums[0] + (sums[1] + sums[2]);
}
function check(allowed, message) { // ROSE-11
  if (!allowed) throw new RangeError(message);
}
function readOptions({ weight_decay: decay = "3f1a36e2eb1c432d", ...given }, dtype, noise) { // ROSE-10.1
  const { compute_dtype: name = "fp64", centralize = true, stabilize = true, maximize } = given;
  const number = (word, absent) => (word === undefined || word === null ? absent : FORMATS.float64.decode(word));
  const [lr, weightDecay, reference] = [number(given.lr, NaN), number(decay, 0), number(given.lr_reference, 1)];
  const maxStep = number(given.max_step, Infinity);
  check(lr >= 0 && lr < Infinity, `lr must be finite and >= 0, got ${lr}`);
  check(weightDecay >= 0 && weightDecay < Infinity, `weight_decay must be finite and >= 0, got ${weightDecay}`);
  check(reference > 0 && reference < Infinity, `lr_reference must be finite and > 0, got ${reference}`);
  check(maxStep > 0, `max_step must be > 0, got ${maxStep}`);
  const asked = String(name).trim().toLowerCase(); // ROSE-10.2
  const none = noise ? "float32" : dtype; // ROSE-2.5
  const compute = { ...NAMES, none, null: none }[asked] ?? asked;
  check(Object.hasOwn(FORMATS, compute), `compute_dtype must be fp64, fp32, fp16, bf16 or none, got ${asked}`);
  check(!noise || (dtype === "bfloat16" && !compute.endsWith("16")), "noise where nothing is rounded to bfloat16");
  const factor = weightDecay ? max(0, 1 - (lr / reference) * weightDecay) : 1; // ROSE-3.2
  const limit = maxStep === Infinity ? Infinity : lr * maxStep; // ROSE-6.4
  return { lr, factor, limit, compute, centralize, stabilize, sign: maximize ? -1 : 1 };
}
function limited(change, limit) { // ROSE-6.4
  return change > limit ? limit : change < -limit ? -limit : change;
}
function advance(x, g, shape, { lr, limit, centralize, stabilize }, operation, rc) { // rank 1 and above
  const [o, matrix, length] = [operation.cast, shape.length > 1, shape.length > 1 ? x.length / shape[0] : x.length];
  const [ranges, shown] = [[], {}];
  for (let start = 0; start < g.length; start += length) {
    const row = g.slice(start, start + length);
    let [low, high] = [row.reduce((a, b) => min(a, b)), row.reduce((a, b) => max(a, b))]; // NaN if any is: ROSE-4.1
    if (matrix && centralize) { // ROSE-4.2
      const mean = min(max(rc(reproducibleSum(row) / length), low), high) + 0;
      row.forEach((value, i) => { g[start + i] = rc(value - mean); });
      [low, high] = [rc(low - mean), rc(high - mean)];
      shown.mean = [...(shown.mean ?? []), operation.encode(mean)];
    }
    ranges.push(rc(abs(high) - low)); // ROSE-4.3
  }
  let denominators = ranges;
  if (matrix && stabilize) { // ROSE-5.2 to ROSE-5.4
    const mean64 = reproducibleSum(ranges) / ranges.length;
    const variance = reproducibleSum(ranges.map((range) => (range - mean64) * (range - mean64))) / ranges.length;
    const [mean, std] = [rc(mean64), rc(Math.sqrt(variance))];
    const trust = rc(mean / (mean === 0 ? 1 : rc(std + mean)));
    const nearMean = (range) => rc(mean + o(trust * o(range - mean)));
    const nearRange = (range) => rc(range - o(o(range - mean) * o(1 - trust)));
    denominators = ranges.map(trust < 0.5 ? nearMean : nearRange);
    shown.trust = operation.encode(trust);
  }
  denominators = denominators.map((value) => (value === 0 ? 1 : value)); // ROSE-5.5
  Object.assign(shown, { range: ranges.map(operation.encode), denominator: denominators.map(operation.encode) });
  const change = (i) => limited(o(o(o(-lr) * g[i]) / denominators[Math.floor(i / length)]), o(limit));
  const moved = (value, i) => rc(value + change(i)); // ROSE-6.1
  return [x.map(moved), shown];
}
function step({ param, grad, options: given, noise }) {
  const [storage, gradStorage] = [FORMATS[param.dtype], FORMATS[grad.dtype]];
  check(storage && gradStorage, `dtypes must be ${Object.keys(FORMATS)}, got ${param.dtype} and ${grad.dtype}`);
  check(String(param.shape) === String(grad.shape), `param and grad have shapes ${param.shape} and ${grad.shape}`);
  const options = readOptions(given, param.dtype, noise);
  const operation = FORMATS[options.compute === "float64" ? "float64" : "float32"]; // ROSE-2.1
  const [o, rc, factor] = [operation.cast, FORMATS[options.compute].cast, operation.cast(options.factor)];
  let [x, shown] = [param.words.map((word) => rc(rc(storage.decode(word)) * factor)), {}]; // ROSE-3.1
  const g = grad.words.map((word) => rc(gradStorage.decode(word)) * options.sign);
  const sign = (value) => Math.sign(value) + 0;
  if (param.shape.length === 0) x = [rc(x[0] + limited(o(sign(g[0]) * rc(o(-options.lr))), o(options.limit)))];
  else if (x.length > 0) [x, shown] = advance(x, g, param.shape, options, operation, rc);
  if (noise) x = x.map((value, i) => withWord(value, parseInt(noise[i], 16))); // ROSE-8.1, ROSE-8.2
  return { param: { ...param, words: x.map((value) => storage.encode(storage.cast(value))) }, ...shown };
}
function threefry([k0, k1], [c0, c1]) { // ROSE-9.1
  const [keys, distances] = [[k0, k1, k0 ^ k1 ^ 0x1bd11bda], [13, 15, 26, 6, 17, 29, 16, 24]];
  let [x0, x1] = [c0 + k0, c1 + k1];
  for (let i = 0; i < 20; i++) {
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << distances[i % 8]) | (x1 >>> (32 - distances[i % 8]))) ^ x0;
    const block = (i + 1) / 4;
    if (i % 4 === 3) [x0, x1] = [(x0 + keys[block % 3]) | 0, (x1 + keys[(block + 1) % 3] + block) | 0];
  }
  return [x0, x1];
}
function noiseWords({ count, seed, step: number, index }) { // ROSE-9.2, ROSE-9.3
  const [low, high, ...place] = [seed.slice(8), seed.slice(0, 8), number, index].map((word) => parseInt(word, 16));
  const key = threefry([low, high], place);
  const words = Array.from({ length: Math.ceil(count / 4) }, (_, block) => threefry(key, [block, 0])).flat();
  return { words: words.flatMap((word) => [word & 0xffff, word >>> 16]).slice(0, count).map((word) => hex(word, 4)) };
}
createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, kind, ...request } = JSON.parse(line);
  let reply;
  try {
    reply = kind === "step" ? step(request) : noiseWords(request);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    reply = { refused: error.message };
  }
  process.stdout.write(`${JSON.stringify({ id, ...reply })}\n`);
});
