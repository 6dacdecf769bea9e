"""Sizes: their value at N, sums, and comparisons that must never claim too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnc.ir.size import Highest, Size

STEPS = st.sampled_from([1, 2, 7, 64])
TERMS = st.integers(-(2**40), 2**40)
SIZES = st.builds(Size, TERMS, TERMS, STEPS, TERMS)
POSITIVE = st.builds(Size, st.integers(0, 2**40), st.integers(0, 2**40), STEPS, st.integers(0, 2**40))


def test_value_at_batch_sizes_around_a_step():
    size = Size(a=3, b=100, t=64, c=7)
    assert [size.at(n) for n in (1, 63, 64, 65)] == [110, 296, 299, 402]
    assert str(size) == "3*N + 100*ceil(N/64) + 7"


def test_offsets_beyond_32_bits_are_exact():
    assert Size(a=224 * 224 * 64 * 4).at(65_536) == 224 * 224 * 64 * 4 * 65_536


@given(SIZES, SIZES, st.integers(1, 300), st.integers(0, 300))
def test_at_most_is_sound_on_a_bucket(one, other, low, width):
    if one.at_most(other, low, low + width):
        assert all(one.at(n) <= other.at(n) for n in range(low, low + width + 1))


@given(SIZES, SIZES, st.integers(1, 300))
def test_at_most_is_sound_without_an_upper_end(one, other, low):
    if one.at_most(other, low, None):
        assert all(one.at(n) <= other.at(n) for n in (low, low + 1, low + 63, low + 64, 10**6, 10**9))


@given(POSITIVE, st.integers(1, 1000), st.integers(0, 1000))
def test_a_size_is_at_most_itself_and_what_is_larger(size, low, more):
    assert size.at_most(size, low, None)
    assert size.at_most(size + Size(c=more), low, low + 10)


@given(SIZES, SIZES, st.integers(1, 500))
def test_sum_is_the_sum(one, other, n):
    if one.b and other.b and one.t != other.t:
        with pytest.raises(ValueError, match="can't be added"):
            _ = one + other
    else:
        assert (one + other).at(n) == one.at(n) + other.at(n)


@given(st.lists(POSITIVE, min_size=1, max_size=5), st.integers(1, 500))
def test_the_highest_of_sizes(sizes, n):
    highest = Highest(tuple(sizes))
    assert highest.at(n) == max(size.at(n) for size in sizes)
    assert (highest + Size(a=3, c=7)).at(n) == highest.at(n) + 3 * n + 7


def test_multiples_are_so_by_their_terms():
    assert Size(a=32, b=16, t=4, c=48).multiple_of(16)
    assert not Highest((Size(a=32), Size(c=8))).multiple_of(16)
    assert str(Highest((Size(a=2), Size(c=5)))) == "max(2*N, 5)"
