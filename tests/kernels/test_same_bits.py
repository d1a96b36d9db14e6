"""The kernels give the bits of the core, over the cases of every array library and with 1 to 8 threads."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.noise import NoiseKey
from rose_kernels import Kind
from rose_kernels.parallel import schedule
from tests.bits import assert_same_bits, from_words
from tests.core.test_same_bits import BY_HAND, LARGE, OPTIONS
from tests.kernels.stepping import KINDS, update_by_kernels
from tests.strategies import DTYPES, LAYOUTS, UpdateCase, examples, fill, generators, update_cases
from tests.strategies import KINDS as KINDS_OF_DATA

of_every_kind = pytest.mark.parametrize("kind", KINDS, ids="-".join)
threads = st.integers(1, 8)


def assert_kernels_have_the_bits_of_the_core(case: UpdateCase, *, threads: int) -> bool:
    """Compare an update by the kernels with the core; return False if no kernel can walk the layout."""
    expected = rose_core.update(case.param, case.grad, noise=case.noise, **case.options)
    param, grad = (LAYOUTS[case.layout](np.copy, x) for x in (case.param, case.grad))
    if not update_by_kernels(param, grad, threads=threads, noise=case.noise, **case.options):
        assert_same_bits(param, case.param, what="a parameter that no kernel can walk")
        return False
    what = f"{param.dtype} {param.shape} grad {grad.dtype} {case.options} {case.layout}, {threads} threads"
    assert_same_bits(param, expected, backend="kernels", what=what)
    assert_same_bits(grad, case.grad, what="the gradient after the update")
    return True


def use_small_blocks(patch: pytest.MonkeyPatch, block: int) -> None:
    """Shrink tasks, bundles and stored rows, so that small arrays take every path."""
    patch.setattr(schedule, "BLOCK", block)
    patch.setattr(schedule, "BUNDLE", max(1, block // 2))
    patch.setattr(schedule, "STORED_ROWS", 3 * block)
    patch.setattr(schedule, "RECOMPUTED_ROWS", max(1, block // 3))
    patch.setattr(schedule, "GATE_ROWS", block)


def cases_of(kind: Kind) -> st.SearchStrategy[UpdateCase]:
    """Return a strategy that draws cases for the kernels of one kind."""
    return update_cases((kind.param,), grad_dtypes=(kind.grad,), computes=(kind.compute,))


@of_every_kind
@given(data=st.data(), threads=threads)
@examples(150)
def test_update(kind: Kind, data: st.DataObject, threads: int) -> None:
    assert_kernels_have_the_bits_of_the_core(data.draw(cases_of(kind)), threads=threads)


@of_every_kind
@given(data=st.data(), threads=threads, block=st.integers(1, 40))
@examples(150)
def test_update_in_small_blocks(kind: Kind, data: st.DataObject, threads: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_small_blocks(patch, block)
        assert_kernels_have_the_bits_of_the_core(data.draw(cases_of(kind)), threads=threads)


@of_every_kind
def test_update_of_every_kind_of_data_at_every_choice_of_flags(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    shapes = [(6, 41), (70, 9), (66, 33), (3, 1), (1, 5), (200,), ()]
    for data, shape, flags in product(KINDS_OF_DATA, shapes, product([True, False], repeat=3)):
        options = OPTIONS | dict(zip(("centralize", "stabilize", "maximize"), flags, strict=True))
        noise = rng.integers(0, 2**16, shape, dtype=np.int32) if kind.param == "bfloat16" else None
        param, grad = fill(data, rng, shape, kind.param), fill(data, rng, shape, kind.grad)
        case = UpdateCase(param, grad, noise, options | {"compute_dtype": kind.compute})
        assert assert_kernels_have_the_bits_of_the_core(case, threads=1)


@pytest.mark.parametrize("name", [name for name, (_, _, _, compute) in LARGE.items() if compute != "bf16"])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_update_of_large_arrays(name: str, threads: int) -> None:
    shape, data, dtype, compute = LARGE[name]
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 2**16, shape, dtype=np.int32) if dtype == "bfloat16" else None
    options = OPTIONS | {"centralize": name != "three folds over the slices", "compute_dtype": compute}
    case = UpdateCase(fill(data, rng, shape, dtype), fill(data, rng, shape, dtype), noise, options)
    assert assert_kernels_have_the_bits_of_the_core(case, threads=threads)


@pytest.mark.parametrize("name", BY_HAND)
def test_update_of_edges_picked_by_hand(name: str) -> None:
    shape, bits = BY_HAND[name]
    grad = from_words(bits, "float32").reshape(shape)
    params = [np.full(shape, value, np.float32) for value in (1.0, -0.0)] + [grad]
    for param, compute, centralize, stabilize in product(params, ("fp64", "fp32"), [True, False], [True, False]):
        options = OPTIONS | {"compute_dtype": compute, "centralize": centralize, "stabilize": stabilize}
        done = assert_kernels_have_the_bits_of_the_core(UpdateCase(param, grad, None, options), threads=1)
        assert done == (0 not in shape)


@given(
    shape=st.sampled_from([(), (1,), (5,), (3, 1023), (1, 4097), (70, 9), (5, 3, 2)]),
    key=st.builds(NoiseKey, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    rng=generators(),
    threads=threads,
)
@examples(100)
def test_portable_noise(shape: tuple[int, ...], key: NoiseKey, rng: np.random.Generator, threads: int) -> None:
    param, grad = fill("normal", rng, shape, "bfloat16"), fill("normal", rng, shape, "bfloat16")
    words = rose_core.noise_words(shape, seed=key.seed, step=key.step, index=key.index, like=param)
    expected = rose_core.update(param, grad, lr=0.01, noise=words)
    assert update_by_kernels(param, grad, lr=0.01, noise=key, threads=threads)
    assert_same_bits(param, expected, backend="kernels")


@pytest.mark.parametrize("last", [1.0, np.inf, np.nan])
@pytest.mark.parametrize("growth", [-3, 0, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_long_rows_whose_magnitude_changes(threads: int, growth: int, last: float) -> None:
    rng, length = np.random.default_rng(4), 20_001
    grad = (rng.standard_normal((2, length)) * 2.0 ** (growth * np.arange(length) // 1000)).astype(np.float32)
    grad[0, -1] *= last
    case = UpdateCase(fill("normal", rng, grad.shape, "float32"), grad, None, OPTIONS)
    for block in (1000, 5000, 8192, 2**16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schedule, "BLOCK", block)
            assert assert_kernels_have_the_bits_of_the_core(case, threads=threads)


@pytest.mark.parametrize("spread", [0, 30, 60])
@pytest.mark.parametrize("cancelling", [False, True])
@pytest.mark.parametrize("length", [30, 300, 3000, 70_000, 2**20 + 6])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_rows_whose_plain_sums_are_not_all_exact(dtype: str, length: int, cancelling: bool, spread: int) -> None:
    rng = np.random.default_rng(6)
    rows = 64 if length == 30 else 2
    x = rng.standard_normal((rows, length // 2 - 3)) * np.ldexp(1.0, -rng.integers(0, spread + 1, length // 2 - 3))
    others = -x if cancelling else rng.permuted(x, axis=1)
    tiny = np.ldexp(rng.uniform(1, 2, (rows, 6)), -80)
    grad = rng.permuted(np.concatenate([x, others, tiny], axis=1), axis=1).astype(DTYPES[dtype][0])
    # An error in a mean is small beside most elements. It shows in the small ones, if the parameter is 0.
    case = UpdateCase(np.zeros(grad.shape, DTYPES[dtype][0]), grad, None, OPTIONS)
    assert assert_kernels_have_the_bits_of_the_core(case, threads=2)


def test_a_row_of_zeros_among_rows_whose_plain_sums_are_not_exact() -> None:
    grad = np.asarray([[0.0, -0.0, 0.0], [1.0, 2.0**-60, -1.0], [-0.0, -0.0, -0.0]], np.float32)
    case = UpdateCase(np.zeros(grad.shape, np.float32), grad, None, OPTIONS)
    assert assert_kernels_have_the_bits_of_the_core(case, threads=1)
