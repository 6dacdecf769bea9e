"""The memory plan: live buffers never overlap, at any batch size of the bucket."""

from hypothesis import given
from hypothesis import strategies as st

from cnnc.ir.size import Size
from cnnc.passes.memory import Request, pack

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
