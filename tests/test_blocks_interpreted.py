"""One block of each family of networks through Triton's interpreter, against the cpu and the oracle in float64."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc
from cnnc.api.network import Network
from cnnc.frontend import load
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from cnnc.source import Source
from tests.random_runs import poison

TOLERANCE = 1e-5  # relative L2; gradients that cancel are compared on the scale of the largest
FLOOR = 0.01
BATCH = 2
GROUP_BATCH = 3  # a batch norm of two values has gradients that are rounding errors alone

BLOCKS = {
    "alexnet": """
        input 13x11x3
        conv 6 5x5/2 relu
        lrn n=5 alpha=0.01
        maxpool 3x3/2
        conv 8 3x3 pad=1 groups=2 relu
        fc 5 softmax
    """,
    "lenet": """
        input 10x12x2
        conv 4 3x3 scaled_tanh
        subsample 2x2/2 scaled_tanh
        conv 5 3x3 connect=[0 1 | 1 2 | 2 3 | 0 3 | 0 1 2 3] scaled_tanh
        fc 7 scaled_tanh
        rbf 3 codes=[+-+-+-+ | --++--+ | +++-+++]
    """,
    "inception": """
        input 6x5x8
        CONV: relu
        concat {
        | conv 4 1x1
        | conv 3 1x1; conv 5 3x3 same
        | conv 2 1x1; conv 3 5x5 same
        | maxpool 3x3/1 same; conv 2 1x1
        }
        maxpool 3x3/2 ceil
        globalavgpool
    """,
    "inception_bn": """
        input 6x7x5
        CONV: same, nobias, relu
        concat {
        | conv 4 1x7; bn nogamma; conv 3 7x1
        | avgpool 3x3/1 same; conv 2 1x1
        | conv 3 1x1; concat { | conv 2 1x3 | conv 2 3x1 }
        }
    """,
    "inception_resnet": """
        input 5x6x6
        CONV: same, relu
        add {
        | identity
        | 0.17 * concat { | conv 2 1x1 | conv 2 1x1; conv 3 3x3 }; conv 6 1x1 linear
        } relu
    """,
    "basic": """
        input 7x6x4
        CONV: 3x3, same, nobias, bn, relu
        block basic(w, s=1) { add { | conv w s=s; conv w linear | shortcut A } relu }
        basic(4)
        basic(8, s=2)
    """,
    "bottleneck": """
        input 6x5x4
        CONV: same, nobias, bn, relu
        block bottleneck(w, s=1) { add { | conv w 1x1/s; conv w 3x3; conv 4*w 1x1 linear | shortcut B } relu }
        bottleneck(2)
        bottleneck(2, s=2) x2 last(s=1)
        globalavgpool
        fc 3
    """,
    "dense": """
        input 4x5x4
        CONV: same, nobias
        repeat 3 { concat { | identity | bn; relu; conv 8 1x1 bn relu; conv 2 3x3 } }
        bn; relu
        conv 5 1x1
        avgpool 2x2/2
    """,
    "separable": """
        input 7x8x5
        CONV: nobias
        SEPCONV: 3x3, same, nobias, bn
        add { | relu; sepconv 6; relu; sepconv 6; maxpool 3x3/2 same=tf | conv 6 1x1/2 bn }
    """,
    "depthwise": """
        input 6x5x4
        CONV: nobias, bn, relu
        DWCONV: 3x3, same, nobias, bn, relu
        dwconv s=2
        conv 6 1x1
        add { | identity | conv 9 1x1; dwconv; conv 6 1x1 linear }
    """,
    "unet": """
        input 6x8x2
        CONV: 3x3, same, relu
        c1: conv 4
            conv 4 nobias bn
        d1: maxpool 2x2/2
            conv 6 nobias bn
            conv 6
        up: deconv 4 2x2/2
            concat(c1, up)
            conv 4
            conv 3 1x1 linear
    """,
    "fcn": """
        input 9x8x3
        CONV: relu
        c1: conv 4 3x3 pad=2
            maxpool 2x2/2 ceil
            conv 4 3x3
            conv 2 1x1 linear
        up: deconv 2 4x4/2 weights=bilinear fixed nobias
            from c1
            conv 2 1x1 linear
        c2: crop like up offset=1
            add(up, c2)
            deconv 2 4x4/2 weights=bilinear fixed nobias
            crop like input offset=2
    """,
    "wavenet": """
        input 9x4
        CONV: causal
        l: repeat i=0..1 {
          add {
          | identity
          | gate: mul { | conv 4 f=2 dilation=2^i tanh | conv 4 f=2 dilation=2^i sigmoid }
            skip: conv 3 f=1
            from gate; conv 4 f=1
          }
        }
        add(l.*.skip) relu
        conv 5 f=1
    """,
    "binary": """
        input 6x5x3
        CONV: binary
        FC: binary
        conv 4 3x3 same
        maxpool 2x2/2
        bn
        sign
        fc 5 bn sign
        fc 3 bn
    """,
    "policy": """
        input 5x4x6
        conv 4 3x3 same relu
        conv 1 1x1 bias=position
        flatten
        softmax
    """,
}


# Whose groups are also held against the oracle one by one every day; the others' on slow ones.
QUICK = ("depthwise", "unet", "inception_resnet")


def both(text: str) -> tuple[Network, Network]:
    """Interpreted in float32, and on cpu in float64, with the same weights of no special values."""
    tested = cnnc.compile(text, device="interpret", training=True, seed=3)
    judge = cnnc.compile(text, device="cpu", dtype="float64", training=True, seed=3)
    rng = np.random.default_rng(3)
    state = tested.state_dict()
    for name, value in state.items():
        if value.ndim == 1:
            state[name] = (value + rng.uniform(0.1, 0.4, value.shape)).astype(np.float32)
    for net in (tested, judge):
        net.load_state_dict(state)
    return tested, judge


@pytest.mark.parametrize("family", BLOCKS)
def test_blocks(family: str) -> None:
    tested, judge = both(BLOCKS[family])
    rng = np.random.default_rng(4)
    x = rng.standard_normal((BATCH, *tested.input_shape)).astype(np.float32)
    dy = rng.standard_normal((BATCH, *tested.output_shape)).astype(np.float32)
    found, wanted = (results(net, x, dy) for net in (tested, judge))
    floor = FLOOR * max(float(np.linalg.norm(value)) for name, value in wanted.items() if name.startswith("grad"))
    for name, want in wanted.items():
        norm = max(float(np.linalg.norm(want)), floor if name.startswith("grad") else 0.0)
        assert np.linalg.norm(found[name] - want) <= TOLERANCE * norm, name


def results(net: Network, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs in both modes, and all gradients, over poisoned memory."""
    given = {"infer": net(x)}
    given["forward"] = net(x, training=True)
    poison(net)
    dx, grads = net.vjp(x, dy)
    return {**given, "grad of the input": dx, **{f"grad {name}": grad for name, grad in grads.items()}}


@pytest.mark.parametrize(
    "family", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BLOCKS]
)
def test_every_group(family: str) -> None:
    """All passes, in inference and training: each fused group and each output against the unfused graph."""
    model = load(Source(f"<{family}>", BLOCKS[family]))
    groups = list(verify_model(model, open_device("interpret", "float32"), "float32", train=True, batch=GROUP_BATCH))
    assert [group for group in groups if not group.passed] == []
