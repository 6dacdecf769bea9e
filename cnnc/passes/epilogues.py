"""Which ops a kernel can compute on the tile it already holds, just before it stores it."""

from __future__ import annotations

from cnnc.ir import ops

# What may follow on a tile: one element of the result needs one element of each tile and one of each
# vector of channels or array of positions.
TILE_PARTS: tuple[type[ops.Op], ...] = (
    ops.BiasAdd,
    ops.PositionBias,
    ops.Activation,
    ops.ActivationGrad,
    ops.PRelu,
    ops.PReluGrad,
    ops.PReluSlopeGrad,
    ops.Identity,
    ops.Scale,
    ops.ChannelScale,
    ops.Mul,
    ops.Add,
    ops.Dropout,
    ops.BatchNorm,
    ops.BatchNormScale,
    ops.ChannelAffine,
)

# Kernels that end in the store of one [rows, channels] tile, and so can go on computing on it.
TILE_ANCHORS: tuple[type[ops.Op], ...] = (
    ops.Conv,
    ops.ConvDgrad,
    ops.Linear,
    ops.LinearDgrad,
    ops.MaxPool,
    ops.MaxPoolGrad,
    ops.AvgPool,
    ops.AvgPoolGrad,
    ops.SumPool,
    ops.SumPoolGrad,
    ops.GlobalAvgPool,
    ops.GlobalAvgPoolGrad,
    ops.ZeroPad,
    ops.Crop,
    ops.PadShortcut,
    ops.PadShortcutGrad,
    ops.Upsample,
    ops.UpsampleGrad,
    ops.ChannelShuffle,
    ops.Maxout,
    ops.MaxoutGrad,
    ops.Lrn,
    ops.LrnGrad,
    ops.BatchNormInputGrad,
    *TILE_PARTS,
)

# Parts that may read the chain's value in any slot; all others read it in their first.
SYMMETRIC: tuple[type[ops.Op], ...] = (ops.Add, ops.Mul)


def reason_against(anchor: ops.Op, part: ops.Op) -> str | None:
    """Why ``part`` can't run in the epilogue of a kernel that begins with ``anchor``; None if it can.

    Parts may form any chain or DAG: each reads earlier parts' values, or tiles and channel vectors
    from memory; every value may leave the kernel. All tiles have the shape of the anchor's result.
    """
    if not isinstance(anchor, TILE_ANCHORS):
        return f"{anchor.name} does not end in a tile of rows and channels"
    if not isinstance(part, TILE_PARTS):
        return f"{part.name} needs more than one element of its operand"
    return None
