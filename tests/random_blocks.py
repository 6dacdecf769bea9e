"""Programs of the pieces that convolutional networks are made of, as a hypothesis strategy: what passes fuse."""

from __future__ import annotations

from hypothesis import strategies as st

WIDTHS = st.sampled_from((1, 2, 3, 5, 7, 8))
KERNELS = st.sampled_from(
    ("1x1", "3x3 same", "1x3 same", "3x1 same", "3x3 pad=(1,0,0,1)", "3x3 same dilation=2", "5x5 same")
)
TAILS = st.sampled_from(("", "relu", "bn", "bn relu", "nobias bn leaky_relu", "bn tanh"))
POOLS = st.sampled_from(
    ("maxpool 2x2", "maxpool 3x3/2 ceil", "avgpool 2x2", "maxpool 3x3/1 same", "avgpool 3x3/2 same countpad")
)
MERGES = st.sampled_from(("add", "concat"))


@st.composite
def conv(draw: st.DrawFn) -> str:
    return f"conv {draw(WIDTHS)} {draw(KERNELS)} {draw(TAILS)}"


@st.composite
def residual(draw: st.DrawFn) -> str:
    """A bottleneck with the shortcut of its option, strided or not."""
    stride = draw(st.sampled_from((1, 1, 2)))
    option = draw(st.sampled_from("ABC"))
    inner, outer = draw(WIDTHS), draw(st.sampled_from((8, 16)))
    body = f"conv {inner} 1x1/{stride} nobias bn relu; conv {inner} 3x3 same nobias bn relu; conv {outer} 1x1 nobias bn"
    return f"conv {draw(st.sampled_from((5, 8)))} 1x1\nadd {{\n| {body}\n| shortcut {option}\n}} relu"


@st.composite
def inception(draw: st.DrawFn) -> str:
    """Arms that share their input: products side by side, a pool before a product, a bare arm."""
    tail = draw(TAILS)
    arms = [f"conv {draw(WIDTHS)} 1x1 {tail}", f"conv {draw(WIDTHS)} 1x1 {tail}; conv {draw(WIDTHS)} 3x3 same {tail}"]
    arms += draw(
        st.lists(
            st.one_of(
                st.builds("maxpool 3x3/1 same; conv {} 1x1 {}".format, WIDTHS, TAILS),
                st.builds("avgpool 3x3/1 same; conv {} 1x1".format, WIDTHS),
                st.just("identity"),
                st.builds("conv {} 1x1 bn; conv {} 5x5 same".format, WIDTHS, WIDTHS),
            ),
            max_size=2,
        )
    )
    return "concat {\n" + "\n".join(f"| {arm}" for arm in arms) + "\n}"


@st.composite
def dense(draw: st.DrawFn) -> str:
    """A dense block and its transition."""
    growth, times = draw(st.sampled_from((2, 3, 8))), draw(st.integers(1, 3))
    layer = f"bn; relu; conv {2 * growth} 1x1 nobias bn relu; conv {growth} 3x3 same nobias"
    return f"repeat {times} {{ concat {{ | identity | {layer} }} }}\nbn relu\nconv 4 1x1 nobias\navgpool 2x2"


@st.composite
def separable(draw: st.DrawFn) -> str:
    """Depthwise, then pointwise, with a batch norm in either place."""
    window = draw(st.sampled_from(("3x3 same", "3x3/2 same", "5x5 same")))
    return f"relu\ndwconv {window} {draw(TAILS)}\nconv {draw(WIDTHS)} 1x1 {draw(TAILS)}"


OTHERS = st.sampled_from(("dropout 0.4", "lrn n=3", "prelu", "bn", "relu", "scale", "shuffle 1", "upsample 2"))


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A whole program: a few pieces on a small image of odd size, and a classifier or nothing behind them."""
    height, width, channels = draw(st.integers(4, 9)), draw(st.integers(4, 9)), draw(st.sampled_from((1, 3, 5, 8)))
    pieces = draw(
        st.lists(
            st.one_of(conv(), conv(), residual(), inception(), dense(), separable(), POOLS, OTHERS),
            min_size=1,
            max_size=5,
        )
    )
    ending = draw(st.sampled_from(("fc 3 softmax", "globalavgpool\nfc 4 softmax", "fc 5 relu\ndropout 0.5\nfc 3", "")))
    # Channels that hardly vary must not be blown up: their gradients would be rounding errors.
    return "\n".join([f"input {height}x{width}x{channels}", "BN: eps=0.1", *pieces, ending])
