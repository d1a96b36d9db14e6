"""The oracle and rose_core agree on words of every kind; the generator of cases."""

import hashlib
import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import rose_core
from rose_spec.cases import GENERATOR, Case, digest, generated_case, generated_cases
from rose_spec.floats import FORMATS
from rose_spec.oracle import Options, Rule, Tensor
from rose_spec.validation import reason_to_refuse
from rose_spec.vectors import options_from_json, tensor_to_json
from tests.bits import from_words
from tests.spec.core_port import to_array, to_tensor
from tests.strategies import examples

DTYPES = list(FORMATS)


@given(dtype=st.sampled_from(DTYPES), bits=st.integers(0, 2**64 - 1))
@example("float32", 0x7FFFFFFF)
@example("float64", 0xFFF0000000000001)
@examples(300)
def test_a_word_is_unchanged_by_decoding_and_encoding(dtype: str, bits: int) -> None:
    form = FORMATS[dtype]
    word = bits >> (64 - form.width)
    value = form.decode(word)
    assert form.encode(value, canonical=False) == word
    assert math.isnan(value) or form.encode(value) == word
    same = from_words([word], dtype).astype(np.float64)[0]
    assert value == same or (math.isnan(value) and math.isnan(same))


@st.composite
def wild_cases(draw: st.DrawFn) -> Case:
    """Draw steps of any words, without float64 values near the largest, whose sums may overflow (ROSE-7.3)."""
    shape = draw(st.sampled_from([(), (1,), (4,), (2, 1), (1, 3), (3, 2), (2, 2, 2), (5, 2), (0, 2)]))

    def tensor(dtype: str) -> Tensor:
        word = st.integers(0, 2 ** FORMATS[dtype].width - 1)
        bits = draw(st.lists(word, min_size=math.prod(shape), max_size=math.prod(shape)))
        values = [FORMATS[dtype].decode(b) for b in bits]
        return Tensor(dtype, shape, tuple(v if abs(v) < 2.0**500 or math.isinf(v) else math.nan for v in values))

    param = tensor(draw(st.sampled_from(DTYPES)))
    numbers = st.floats(0.0, 2.0**100)
    options = {
        "lr": draw(numbers),
        "weight_decay": draw(st.none() | numbers),
        "lr_reference": draw(st.none() | st.floats(2.0**-100, 2.0**100)),
        "centralize": draw(st.booleans()),
        "stabilize": draw(st.booleans()),
        "maximize": draw(st.booleans()),
        "compute_dtype": draw(st.sampled_from(["fp64", "fp32", "fp16", "bf16", None])),
    }
    noise = st.lists(st.integers(0, 0xFFFF), min_size=len(param.values), max_size=len(param.values))
    stochastic = param.dtype == "bfloat16" and options["compute_dtype"] not in ("fp16", "bf16")
    return Case(param, tensor(draw(st.sampled_from(DTYPES))), options, draw(st.none() | noise) if stochastic else None)


@given(case=wild_cases())
@examples(300)
def test_oracle_and_rose_core_agree_on_wild_words(case: Case) -> None:
    expected = Rule(Options(**case.options)).update(case.param, case.grad, case.noise).param
    noise = None if case.noise is None else np.asarray(case.noise, np.int32).reshape(case.param.shape)
    result = rose_core.update(to_array(case.param), to_array(case.grad), noise=noise, **case.options)
    assert tensor_to_json(to_tensor(result)) == tensor_to_json(expected)


def test_generated_cases_have_every_dtype_rank_and_option() -> None:
    cases = list(generated_cases(5, 1000))
    assert GENERATOR == 1
    assert {case.param.dtype for case in cases} == {case.grad.dtype for case in cases} == set(DTYPES)
    assert {len(case.param.shape) for case in cases} == set(range(5))
    assert {case.options.get("compute_dtype", "absent") for case in cases} == {
        *("absent", "fp64", "fp32", "fp16", "bf16"),
        None,
    }
    assert max(len(case.param.values) for case in cases) <= 12
    assert 100 < sum(case.noise is not None for case in cases) < 300
    assert all(
        reason_to_refuse(options_from_json(case.options), case.param, case.grad, case.noise) is None for case in cases
    )


def test_a_generated_case_does_not_depend_on_earlier_cases() -> None:
    assert generated_case(9, 7) == list(generated_cases(9, 8))[7]


def test_a_digest_hashes_big_endian_words_with_canonical_nans() -> None:
    nans = [Tensor.from_words("float32", (2,), [0x3F800000, word]) for word in (0x7FC00000, 0xFFFFFFFF)]
    assert digest(nans[:1]) == digest(nans[1:])
    expected = hashlib.sha256(bytes.fromhex("3f8000007fc00000")).hexdigest()
    assert digest(nans[:1]) == expected
