"""The random generator against the published vectors, and the mask's definition."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.runtime.philox import CHUNK, dropout_mask, philox

ONES = 0xFFFFFFFF
# Known answers of Random123 for philox4x32 with 10 rounds: counter, key, words.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    seed = key[0] | key[1] << 32
    assert tuple(int(word) for word in philox(seed, *counter)) == words
    # Vectorised over one counter word, scalars for the others.
    first = philox(seed, np.array([counter[0], 1]), *counter[1:])
    assert tuple(int(word[0]) for word in first) == words


def test_mask_is_the_first_word_of_each_index() -> None:
    shape, seed, step, stream, rate = (3, 5, 41, 53), 2**40 + 17, 6, 9, 0.25
    assert np.prod(shape) > CHUNK
    words = philox(seed, np.arange(np.prod(shape)), 0, stream, step)[0]
    np.testing.assert_array_equal(dropout_mask(seed, step, stream, rate, shape), words.reshape(shape) >= rate * 2**32)


def test_mask_does_not_depend_on_the_batch() -> None:
    """The mask of the first images is the same whatever comes after them."""
    small, large = (dropout_mask(1, 2, 3, 0.5, (n, 4, 5, 6)) for n in (2, 7))
    np.testing.assert_array_equal(small, large[:2])


def test_rates() -> None:
    shape = (64, 1000)
    assert dropout_mask(1, 0, 0, 0.0, shape).all()
    assert not dropout_mask(1, 0, 0, 1.0, shape).any()
    # Six standard deviations of the mean of 64,000 draws.
    assert abs(dropout_mask(1, 0, 0, 0.3, shape).mean() - 0.7) < 6 * (0.3 * 0.7 / 64000) ** 0.5


@pytest.mark.parametrize("changed", [{"seed": 2}, {"step": 1}, {"stream": 1}])
def test_masks_differ(changed: dict[str, int]) -> None:
    base = {"seed": 1, "step": 0, "stream": 0}
    one, other = (dropout_mask(**arguments, rate=0.5, shape=(1000,)) for arguments in (base, {**base, **changed}))
    # Independent masks agree on half of the elements; six standard deviations.
    assert abs((one == other).mean() - 0.5) < 6 * 0.5 / 1000**0.5
