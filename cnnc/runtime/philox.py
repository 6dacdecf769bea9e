"""Philox-4x32-10 of Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]  # 32-bit words kept in 64 bits, so that products need no second multiply

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
CHUNK = 1 << 14  # counters at a time: the state stays in the second-level cache


def philox(seed: int, c0: npt.ArrayLike, c1: npt.ArrayLike, c2: npt.ArrayLike, c3: npt.ArrayLike) -> tuple[Words, ...]:
    """The four output words of each counter.

    The key is the seed's low and high 32 bits; counters broadcast, and only their low 32 bits count.
    Gives the same words as Triton's ``philox`` on 32-bit counters.
    """
    state = np.broadcast_arrays(*(np.asarray(word).astype(np.uint64) & MASK for word in (c0, c1, c2, c3)))
    a, b, c, d = (word.copy() for word in state)
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(ROUNDS):
        first = a * np.uint64(MULTIPLIERS[0])
        second = c * np.uint64(MULTIPLIERS[1])
        a = (second >> SHIFT) ^ b ^ np.uint64(keys[0])
        c = (first >> SHIFT) ^ d ^ np.uint64(keys[1])
        b = second & MASK
        d = first & MASK
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, WEYL, strict=True)]
    return a, b, c, d


def dropout_mask(seed: int, step: int, stream: int, rate: float, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which elements of a ``[N, H, W, C]`` (or ``[N, C]``) array dropout keeps.

    Element ``index`` in that order has the counter (index, index >> 32, stream, step) and stays where
    its first word is at least ``rate * 2^32``.
    """
    kept = np.empty(math.prod(shape), np.bool_)
    threshold = np.uint64(math.ceil(rate * 2.0**32))
    for start in range(0, kept.size, CHUNK):
        index = np.arange(start, min(start + CHUNK, kept.size), dtype=np.uint64)
        words = philox(seed, index, index >> SHIFT, stream, step)
        np.greater_equal(words[0], threshold, out=kept[start : start + CHUNK])
    return kept.reshape(shape)
