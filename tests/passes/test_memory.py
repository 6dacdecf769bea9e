"""The memory plan: live buffers never overlap, at any batch size of the bucket."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnc.ir.size import Highest, Size
from cnnc.passes.memory import Request, live_bytes, pack, upper

BYTES = st.integers(0, 50).map(lambda units: units * 128)


@st.composite
def requests(draw):
    step = draw(st.sampled_from([1, 8, 64]))
    result = []
    for _ in range(draw(st.integers(0, 14))):
        first = draw(st.integers(0, 12))
        size = Size(draw(BYTES), draw(st.sampled_from([0, 0, 1024])), step, draw(BYTES))
        result.append(Request(size, first, first + draw(st.integers(0, 6))))
    return result


@given(requests(), st.sampled_from([(1, 8, 4), (9, 63, 32), (64, None, 128)]))
def test_live_buffers_never_overlap(wanted, bucket):
    low, high, typical = bucket
    offsets, total = pack(wanted, low, high, typical)
    for n in (low, low + 1, typical, high or 1000, high or 100_000):
        placed = zip(offsets, wanted, strict=True)
        spans = [(offset.at(n), offset.at(n) + request.size.at(n)) for offset, request in placed]
        assert all(0 <= start and end <= total.at(n) for start, end in spans)
        for i, one in enumerate(wanted):
            for j in range(i):
                if one.meets(wanted[j]):
                    assert spans[i][1] <= spans[j][0] or spans[j][1] <= spans[i][0]


def test_memory_of_the_dead_is_used_again():
    a, b, c = Request(Size(1024), 0, 1), Request(Size(512), 1, 2), Request(Size(1024), 2, 3)
    offsets, total = pack([a, b, c], 1, 8, 4)
    assert offsets[0] == offsets[2]
    assert total == Size(1536)


def test_nothing_needs_no_memory():
    assert pack([], 1, None, 128) == ([], Size())


LINES = st.sets(st.tuples(st.integers(0, 40), st.integers(0, 400)), min_size=1, max_size=12)


@given(LINES, st.integers(1, 20), st.integers(0, 40), st.booleans())
def test_only_lines_that_are_highest_somewhere_are_kept(lines, low, width, bounded):
    kept = upper(lines, low, low + width if bounded else None)
    for n in [*range(low, low + width + 1), *([] if bounded else [10**4])]:
        assert max(a * n + c for a, c in kept) == max(a * n + c for a, c in lines)
    if not bounded:
        assert kept[-1][0] == max(a for a, _ in lines)


def test_a_line_that_is_hidden_by_two_others_is_dropped():
    assert upper({(0, 100), (1, 85), (2, 70), (10, 0)}, 1, None) == ((0, 100), (10, 0))
    assert upper({(0, 100), (10, 0)}, 1, 9) == ((0, 100),)


def test_what_lies_on_sums_and_on_images_begins_at_the_higher_end():
    sums, images, both = Request(Size(c=4096), 0, 2), Request(Size(a=128), 3, 5), Request(Size(a=256), 2, 3)
    offsets, total = pack([sums, images, both], 9, 63, 32)
    for n in (9, 32, 63):
        assert total.at(n) == max(4096, 128 * n) + 256 * n == live_bytes([sums, images, both], n)
    assert Highest((Size(c=4096), Size(a=128))) in offsets


def test_packing_is_the_same_every_time():
    wanted = backward(random.Random(5), 30)
    assert pack(wanted, 9, 63, 32) == pack(wanted, 9, 63, 32)


def chain(draw, steps):
    """Inference: each layer reads the one before; a few are read again by a merge some layers on."""
    return [Request(image(draw), i, i + (draw.choice((3, 4, 5)) if draw.random() < 0.25 else 1)) for i in range(steps)]


def backward(draw, steps):
    """A training step: layers stay until their gradient; gradients follow each other, with partial sums beside."""
    result = []
    for i in range(steps):
        size, back = image(draw), 2 * (2 * steps - i)
        result.append(Request(size, i, back + 1))
        result.append(Request(size, back - 2, back + draw.choice((0, 0, 1, 4))))
        result.append(Request(Size(c=128 * draw.randrange(1, 2000)), back + 1, back + 1))
    return result


def branches(draw, steps):
    """Modules of parallel arms that a concatenation gathers."""
    result, at = [], 0
    for _ in range(steps // 8 + 1):
        arms = draw.randrange(2, 5)
        end = at + 2 * arms
        result.append(Request(image(draw), at, end))
        for arm in range(arms):
            result.append(Request(image(draw), at + 2 * arm, at + 2 * arm + 1))
            result.append(Request(image(draw), at + 2 * arm + 1, end))
        at = end
    return result


def growing(draw, steps):
    """A dense block whose features are copied at each layer, between what a layer makes from them."""
    first, growth = 128 * draw.randrange(50, 200), 128 * draw.randrange(5, 20)
    result = []
    for i in range(steps):
        size = Size(a=first + i * growth)
        result += [Request(size, 3 * i, 3 * i + 3), Request(size, 3 * i + 1, 3 * i + 2)]
        result.append(Request(Size(a=growth), 3 * i + 2, 3 * i + 3))
    return result


def image(draw):
    """Halved or doubled now and then, as images and channels are."""
    return Size(a=128 * draw.choice((24, 49, 98, 98, 196, 196, 392, 784)) * draw.choice((1, 2, 4)))


@pytest.mark.parametrize("pattern", [chain, backward, branches, growing])
@pytest.mark.parametrize(("low", "high", "typical"), [(1, 8, 4), (9, 63, 32), (64, None, 128)])
def test_patterns_of_networks_are_packed_closely(pattern, low, high, typical):
    draw = random.Random(11)
    ratios = []
    for steps in (6, 12, 25, 60):
        for _ in range(3):
            wanted = pattern(draw, steps)
            ratios.append(pack(wanted, low, high, typical)[1].at(typical) / live_bytes(wanted, typical))
    assert max(ratios) <= 1.05, sorted(ratios)
