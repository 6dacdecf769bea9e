"""Every op of the language and of its gradients."""

from cnnc.ir.ops.base import Op
from cnnc.ir.ops.conv import Conv, ConvDgrad, ConvWgrad
from cnnc.ir.ops.fused import Fused, Part
from cnnc.ir.ops.leaf import Input, Parameter
from cnnc.ir.ops.linear import Linear, LinearDgrad, LinearWgrad
from cnnc.ir.ops.loss import BatchMean, ChannelSum, CrossEntropy, Softmax, SoftmaxGrad
from cnnc.ir.ops.norm import (
    BatchNorm,
    BatchNormGrad,
    BatchNormInputGrad,
    BatchNormReduce,
    BatchNormStats,
    BatchNormTrain,
    BatchNormUpdate,
    FoldScale,
    FoldShift,
)
from cnnc.ir.ops.optimizer import CastArena, SgdUpdate
from cnnc.ir.ops.pointwise import ACTIVATIONS, Activation, ActivationGrad, Add, BiasAdd, Dropout
from cnnc.ir.ops.pool import AvgPool, AvgPoolGrad, GlobalAvgPool, GlobalAvgPoolGrad, MaxPool, MaxPoolGrad
from cnnc.ir.ops.shape import Flatten, Unflatten

LEAVES: tuple[type[Op], ...] = (Input, Parameter)

# Ops that appear in unfused graphs and have a value to evaluate; the tables of other concerns cover these.
ALL_OPS: tuple[type[Op], ...] = (
    Conv,
    ConvDgrad,
    ConvWgrad,
    Linear,
    LinearDgrad,
    LinearWgrad,
    MaxPool,
    MaxPoolGrad,
    AvgPool,
    AvgPoolGrad,
    GlobalAvgPool,
    GlobalAvgPoolGrad,
    BatchNorm,
    BatchNormTrain,
    BatchNormGrad,
    BatchNormStats,
    BatchNormUpdate,
    BatchNormReduce,
    BatchNormInputGrad,
    FoldScale,
    FoldShift,
    BiasAdd,
    Activation,
    ActivationGrad,
    Add,
    Dropout,
    Flatten,
    Unflatten,
    Softmax,
    SoftmaxGrad,
    CrossEntropy,
    BatchMean,
    ChannelSum,
)

# Ops of the ``update`` and ``cast`` plans, over whole arenas.
ARENA_OPS: tuple[type[Op], ...] = (SgdUpdate, CastArena)

# Ops that passes/lower_batchnorm takes apart before a Plan is made; no runtime or kernel sees them.
COMPOSITE_OPS: tuple[type[Op], ...] = (BatchNormTrain, BatchNormGrad)

__all__ = [
    "ACTIVATIONS",
    "ALL_OPS",
    "ARENA_OPS",
    "COMPOSITE_OPS",
    "LEAVES",
    "Activation",
    "ActivationGrad",
    "Add",
    "AvgPool",
    "AvgPoolGrad",
    "BatchMean",
    "BatchNorm",
    "BatchNormGrad",
    "BatchNormInputGrad",
    "BatchNormReduce",
    "BatchNormStats",
    "BatchNormTrain",
    "BatchNormUpdate",
    "BiasAdd",
    "CastArena",
    "ChannelSum",
    "Conv",
    "ConvDgrad",
    "ConvWgrad",
    "CrossEntropy",
    "Dropout",
    "Flatten",
    "FoldScale",
    "FoldShift",
    "Fused",
    "GlobalAvgPool",
    "GlobalAvgPoolGrad",
    "Input",
    "Linear",
    "LinearDgrad",
    "LinearWgrad",
    "MaxPool",
    "MaxPoolGrad",
    "Op",
    "Parameter",
    "Part",
    "SgdUpdate",
    "Softmax",
    "SoftmaxGrad",
    "Unflatten",
]
