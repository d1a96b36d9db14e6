"""The portable noise: Threefry-2x32 on every library, and the noise word of each element (ROSE-9)."""

import math
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rose_core import noise_words
from rose_core.namespace import to_words
from rose_core.noise import NoiseKey, noise_at, noise_in_range, noise_keys, threefry2x32
from tests.backends import Backend, backends
from tests.bits import DTYPES, assert_same_bits, host
from tests.strategies import examples, shapes

MASK = 2**32 - 1
LIKE = np.zeros(1, np.float32)

# Key, counter, result (ROSE-9.1; Random123's kat_vectors).
KNOWN_ANSWERS = {
    "zeros": ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    "ones": ((MASK, MASK), (MASK, MASK), (0x1CB996FC, 0xBB002BE7)),
    "pi": ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
}

uint32 = st.integers(0, MASK)


def threefry(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Return Threefry-2x32 in Python integers, as in the paper: 20 rounds, with a key after every fourth round."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (counter[0] + keys[0]) & MASK, (counter[1] + keys[1]) & MASK
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = (x + y) & MASK
            y = ((y << rotation) & MASK | y >> (32 - rotation)) ^ x
        x = (x + keys[(group + 1) % 3]) & MASK
        y = (y + keys[(group + 2) % 3] + group + 1) & MASK
    return x, y


def word_of(element: int, *, seed: int, step: int, index: int) -> int:
    """Return the noise word of one element of the flattened parameter (ROSE-9.2, ROSE-9.3)."""
    key = threefry((seed & MASK, seed >> 32), (step, index))
    block = threefry(key, (element // 4 & MASK, element // 4 >> 32))
    return (block[0] & 0xFFFF, block[0] >> 16, block[1] & 0xFFFF, block[1] >> 16)[element % 4]


def on_backend(backend: Backend, key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, ...]:
    words = [to_words(backend.array(np.asarray([word], np.int64))) for word in (*key, *counter)]
    with np.errstate(all="raise"):
        results = threefry2x32((words[0], words[1]), (words[2], words[3]))
    return tuple(int(host(result)[0]) & MASK for result in results)


@backends
@pytest.mark.parametrize(("key", "counter", "result"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
def test_known_answers(backend: Backend, key: Any, counter: Any, result: Any) -> None:
    assert threefry(key, counter) == result
    assert on_backend(backend, key, counter) == result


@backends
@given(key=st.tuples(uint32, uint32), counter=st.tuples(uint32, uint32))
@examples(50)
def test_threefry_equals_threefry_in_python_integers(backend: Backend, key: Any, counter: Any) -> None:
    assert on_backend(backend, key, counter) == threefry(key, counter)


@backends
@given(
    shape=shapes(),
    seed=st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32, 2**64 - 1]),
    step=uint32,
    index=uint32,
)
@example(shape=(9,), seed=2**64 - 1, step=MASK, index=MASK)
@example(
    shape=(9,), seed=2**32, step=0, index=1
)  # differs from the next one in both halves of the seed, in step and in index
@example(shape=(9,), seed=1, step=1, index=0)
@examples(40)
def test_element_i_has_word_i_mod_4_of_block_i_div_4(
    backend: Backend, shape: tuple[int, ...], seed: int, step: int, index: int
) -> None:
    """ROSE-9.2, ROSE-9.3: in C order."""
    where = {"seed": seed, "step": step, "index": index}
    words = host(noise_words(shape, like=backend.array(LIKE), **where))
    count = min(words.size, 30)
    expected = [word_of(i, **where) for i in range(count)]
    assert words.dtype == np.int32
    assert words.shape == shape
    assert_same_bits(words.ravel()[:count], np.asarray(expected, np.int32), backend=backend.name)
    if words.size:
        assert int(words.ravel()[-1]) == word_of(words.size - 1, **where)


@given(shape=shapes(), seed=st.integers(0, 2**64 - 1), more=st.integers(0, 40))
@examples(100)
def test_the_noise_of_any_shape_is_a_prefix_of_one_sequence(shape: tuple[int, ...], seed: int, more: int) -> None:
    """A noise word depends only on the position in the flattened parameter, so a shard can compute its words."""
    where: dict[str, Any] = {"seed": seed, "step": 3, "index": 7, "like": LIKE}
    sequence = noise_words((math.prod(shape) + more,), **where)
    assert_same_bits(noise_words(shape, **where).ravel(), sequence[: math.prod(shape)])


NEIGHBOURS = {
    "seed": {"seed": 1},
    "upper half of the seed": {"seed": 2**32},
    "step": {"step": 1},
    "index": {"index": 1},
}


@pytest.mark.parametrize("other", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_another_seed_step_or_index_gives_other_noise(other: dict[str, int]) -> None:
    where: dict[str, Any] = {"seed": 0, "step": 0, "index": 0, "like": LIKE}
    words, others = noise_words((4000,), **where), noise_words((4000,), **(where | other))
    # Of 4000 pairs of independent 16-bit words, more than 5 are equal with a probability below 1e-10.
    assert np.count_nonzero(words == others) <= 5


@backends
def test_block_numbers_above_2_to_the_32_use_both_words_of_the_counter(backend: Backend) -> None:
    """ROSE-9.3: the blocks around j = 2**32. An array with this block would not fit into memory."""
    key = threefry((5, 6), (7, 8))
    blocks = np.asarray([MASK - 1, MASK, MASK + 1, MASK + 2, 2**40 + 3], np.int64)
    held = backend.array(blocks)
    key_words = [to_words(backend.array(np.asarray([word], np.int64))) for word in key]
    x, y = threefry2x32((key_words[0], key_words[1]), (to_words(held & MASK), to_words(held >> 32)))
    expected = [threefry(key, (j & MASK, j >> 32)) for j in blocks.tolist()]
    actual = [(int(a) & MASK, int(b) & MASK) for a, b in zip(host(x), host(y), strict=True)]
    assert actual == expected


@backends
@pytest.mark.parametrize("start", [0, 3, 4, 2**34 - 5, 2**34, 2**40 + 2])
def test_a_range_of_a_huge_array_has_the_words_of_its_elements(backend: Backend, start: int) -> None:
    """ROSE-9.3: from 2**34 elements on, the number of the block has more than 32 bits."""
    where = {"seed": 1, "step": 2, "index": 3}
    words = noise_in_range(NoiseKey(**where), start, start + 11, like=backend.array(LIKE))
    expected = [word_of(start + i, **where) for i in range(11)]
    assert_same_bits(words, np.asarray(expected, np.int32), backend=backend.name)


def test_the_keys_of_many_parameters_equal_the_key_of_each() -> None:
    """ROSE-9.2: seeds have 64 bits, steps and indices 32."""
    keys = [(0, 0, 0), (2**64 - 1, MASK, MASK), (2**32, 1, 0), (1, MASK - 1, 5)]
    expected = [threefry((seed & MASK, seed >> 32), (step, index)) for seed, step, index in keys]
    assert list(zip(*(words.tolist() for words in noise_keys(*zip(*keys, strict=True))), strict=True)) == expected


@backends
def test_words_wrap_at_2_to_the_32(backend: Backend) -> None:
    values = np.asarray([0, 1, 2**31 - 1, 2**31, 2**31 + 1, MASK], np.int64)
    words = to_words(backend.array(values))
    for result, expected in ((words, values), (words + words, 2 * values), (words << 5, values << 5)):
        assert [int(w) & MASK for w in host(result)] == [v & MASK for v in expected.tolist()]


def test_the_words_are_uniform() -> None:
    """Each of the 16 bits is set in half of 2**20 words, within six standard deviations. A deviation is 512 words."""
    words = noise_words((2**20,), seed=11, step=0, index=0, like=LIKE)
    assert int(words.min()) >= 0
    assert int(words.max()) < 2**16
    for bit in range(16):
        assert abs(int(np.count_nonzero(words >> bit & 1)) - 2**19) < 6 * 512


@backends
def test_like_selects_the_library_and_not_the_dtype(backend: Backend) -> None:
    for dtype in backend.dtypes:
        like = backend.array(np.zeros((2, 0), DTYPES[dtype][0]))
        words = noise_words((5,), seed=1, step=2, index=3, like=like)
        assert array_api_compat.array_namespace(words) is array_api_compat.array_namespace(like)
        assert_same_bits(words, noise_words((5,), seed=1, step=2, index=3, like=LIKE), backend=backend.name)


def test_numpy_integers_are_integers() -> None:
    plain = noise_words((2, 3), seed=1, step=2, index=3, like=LIKE)
    shape = (np.int64(2), np.uint8(3))
    assert_same_bits(noise_words(shape, seed=np.uint64(1), step=np.int32(2), index=np.int8(3), like=LIKE), plain)


@backends
@given(
    positions=st.lists(st.integers(0, 2**40) | st.integers(0, 20), max_size=20),
    seed=st.integers(0, 2**64 - 1),
    index=uint32,
)
@examples(30)
def test_the_words_at_positions_equal_those_of_the_whole_parameter(
    backend: Backend, positions: list[int], seed: int, index: int
) -> None:
    words = noise_at(NoiseKey(seed, 1, index), backend.array(np.asarray(positions, np.int64)))
    expected = [word_of(position, seed=seed, step=1, index=index) for position in positions]
    assert_same_bits(words, np.asarray(expected, np.int32), backend=backend.name)


def test_like_may_be_a_scalar_of_numpy() -> None:
    words = noise_words((5,), seed=1, step=2, index=3, like=np.float32(0.0))
    assert_same_bits(words, noise_words((5,), seed=1, step=2, index=3, like=LIKE))
