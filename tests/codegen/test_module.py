"""The generated module as text and table: complete, readable, deduplicated, with honest costs."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence

import pytest

from cnnc.codegen.generate import EMITTERS, generate
from cnnc.codegen.helpers import HELPERS
from cnnc.codegen.launch import Module, Programs, argument_type, divisible_by_16
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Part
from cnnc.ir.plan import Tile
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.passes.epilogues import TILE_PARTS
from tests.codegen.one_step import plan_of

WINDOW = Window((3, 3), (2, 2), (1, 1, 1, 1))
SAME = Window((3, 3), pad=(1, 1, 1, 1))


def _image(*shape: int) -> TensorType:
    return TensorType(shape)


def _fixed(*shape: int, element: Element = Element.ACC) -> TensorType:
    return TensorType(shape, False, element)


X, Y, W, V = _image(8, 8, 20), _image(4, 4, 36), _fixed(36, 3, 3, 20, element=Element.REAL), _fixed(20)
SQUARE, VECTOR, ARENA = _fixed(20, 20, element=Element.REAL), _image(20), _fixed(128)
INDEX = TensorType((4, 4, 20), True, Element.INDEX)
LABEL, NUMBER = TensorType((), True, Element.LABEL), TensorType((), True, Element.ACC)

EXAMPLES: dict[type[ops.Op], tuple[ops.Op, Sequence[TensorType]]] = {
    ops.Conv: (ops.Conv(WINDOW), (X, W)),
    ops.ConvDgrad: (ops.ConvDgrad(WINDOW, (8, 8)), (Y, W)),
    ops.ConvWgrad: (ops.ConvWgrad(WINDOW), (Y, X)),
    ops.Linear: (ops.Linear(), (X, SQUARE)),
    ops.LinearDgrad: (ops.LinearDgrad(), (X, SQUARE)),
    ops.LinearWgrad: (ops.LinearWgrad(), (X, X)),
    ops.MaxPool: (ops.MaxPool(WINDOW), (X,)),
    ops.MaxPoolGrad: (ops.MaxPoolGrad(WINDOW, (8, 8)), (_image(4, 4, 20), INDEX)),
    ops.AvgPool: (ops.AvgPool(WINDOW), (X,)),
    ops.AvgPoolGrad: (ops.AvgPoolGrad(WINDOW, (8, 8)), (_image(4, 4, 20),)),
    ops.GlobalAvgPool: (ops.GlobalAvgPool(), (X,)),
    ops.GlobalAvgPoolGrad: (ops.GlobalAvgPoolGrad((8, 8)), (VECTOR,)),
    ops.BatchNorm: (ops.BatchNorm(), (X, V, V, V, V)),
    ops.BatchNormStats: (ops.BatchNormStats(), (X,)),
    ops.BatchNormUpdate: (ops.BatchNormUpdate(0.1, 64), (V, V, V, V)),
    ops.BatchNormReduce: (ops.BatchNormReduce(), (X, X, V, V)),
    ops.BatchNormInputGrad: (ops.BatchNormInputGrad(), (X, X, V, V, V, V, V)),
    ops.BatchNormScale: (ops.BatchNormScale(), (X, V, V)),
    ops.BatchNormCorrection: (ops.BatchNormCorrection(64), (V, V, V, V, V, V, V)),
    ops.ChannelAffine: (ops.ChannelAffine(), (X, X, V, V)),
    ops.FoldScale: (ops.FoldScale(), (W, _fixed(36), _fixed(36))),
    ops.FoldShift: (ops.FoldShift(), (V, V, V, V, V)),
    ops.BiasAdd: (ops.BiasAdd(), (X, V)),
    ops.PositionBias: (ops.PositionBias(), (X, _fixed(*X.shape))),
    ops.Activation: (ops.Activation("tanh"), (X,)),
    ops.ActivationGrad: (ops.ActivationGrad("relu"), (X, X)),
    ops.PRelu: (ops.PRelu(), (X, V)),
    ops.PReluGrad: (ops.PReluGrad(), (X, X, V)),
    ops.PReluSlopeGrad: (ops.PReluSlopeGrad(), (X, X)),
    ops.Identity: (ops.Identity(), (X,)),
    ops.Scale: (ops.Scale(0.2), (X,)),
    ops.ChannelScale: (ops.ChannelScale(), (X, V)),
    ops.Mul: (ops.Mul(), (X, X)),
    ops.Add: (ops.Add(), (X, X)),
    ops.Dropout: (ops.Dropout(0.5, 1), (X,)),
    ops.Flatten: (ops.Flatten(), (X,)),
    ops.Unflatten: (ops.Unflatten((2, 2, 5)), (VECTOR,)),
    ops.Softmax: (ops.Softmax(), (VECTOR,)),
    ops.SoftmaxGrad: (ops.SoftmaxGrad(), (VECTOR, VECTOR)),
    ops.CrossEntropy: (ops.CrossEntropy(), (VECTOR, LABEL)),
    ops.BatchMean: (ops.BatchMean(), (NUMBER, NUMBER)),
    ops.Rbf: (ops.Rbf(), (VECTOR, _fixed(10, 20))),
    ops.RbfGrad: (ops.RbfGrad(), (_image(10), VECTOR, _fixed(10, 20))),
    ops.Zeros: (ops.Zeros((5, 7)), ()),
    ops.ChannelSum: (ops.ChannelSum(), (X,)),
    ops.BatchSum: (ops.BatchSum(), (X,)),
    ops.MaskWeight: (ops.MaskWeight(), (W, _fixed(36, 20))),
    ops.Binarize: (ops.Binarize(), (_fixed(*W.shape),)),
    ops.ConcatRows: (ops.ConcatRows(), (_fixed(36, 5), _fixed(7, 5))),
    ops.RowSlice: (ops.RowSlice(3, 4), (_fixed(36, 5),)),
    ops.Concat: (ops.Concat(), (X, _image(8, 8, 3))),
    ops.ChannelSlice: (ops.ChannelSlice(4, 7), (X,)),
    ops.Split: (ops.Split((5, 12, 3)), (X,)),
    ops.ChannelShuffle: (ops.ChannelShuffle(5), (X,)),
    ops.Maxout: (ops.Maxout(2), (X,)),
    ops.MaxoutGrad: (ops.MaxoutGrad(2), (_image(8, 8, 10), X)),
    ops.Lrn: (ops.Lrn(), (X,)),
    ops.LrnGrad: (ops.LrnGrad(beta=0.5), (X, X)),
    ops.SumPool: (ops.SumPool(WINDOW), (X,)),
    ops.SumPoolGrad: (ops.SumPoolGrad(WINDOW, (8, 8)), (_image(4, 4, 20),)),
    ops.ZeroPad: (ops.ZeroPad((1, 0, 2, 3)), (X,)),
    ops.Crop: (ops.Crop((1, 2), (4, 5)), (X,)),
    ops.PadShortcut: (ops.PadShortcut((2, 2), 23), (X,)),
    ops.PadShortcutGrad: (ops.PadShortcutGrad((2, 2), (8, 8), 20), (_image(4, 4, 23),)),
    ops.Upsample: (ops.Upsample((2, 3), "bilinear"), (X,)),
    ops.UpsampleGrad: (ops.UpsampleGrad((2, 4), "bilinear"), (X,)),
    ops.SgdUpdate: (ops.SgdUpdate(64), (ARENA, ARENA, ARENA)),
    ops.CastArena: (ops.CastArena(), (ARENA,)),
}
TARGETS = (("interpret", "float32"), ("sm_90", "float32"), ("sm_90", "bfloat16"))


def _module(kind: type[ops.Op], target: str = "interpret", dtype: str = "float32") -> Module:
    op, types = EXAMPLES[kind]
    return generate(plan_of(op, types, target=target, dtype=dtype))


def test_every_op_has_an_emitter() -> None:
    """All that a Plan can hold, and nothing else."""
    expected = set(ops.ALL_OPS) - set(ops.COMPOSITE_OPS) | set(ops.ARENA_OPS)
    assert set(EMITTERS) == expected
    assert set(EXAMPLES) == expected


@pytest.mark.parametrize(("target", "dtype"), TARGETS)
@pytest.mark.parametrize("kind", EMITTERS, ids=lambda kind: kind.__name__)
def test_text(kind: type[ops.Op], target: str, dtype: str) -> None:
    """Each kernel parses, has a docstring, takes what its launch passes, and assigns to no parameter."""
    module = _module(kind, target, dtype)
    tree = ast.parse(module.source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (launches,) = module.tables[0].steps.values()
    assert ast.get_docstring(tree)
    assert {launch.kernel for launch in launches} == set(functions) - set(HELPERS)
    assert max(map(len, module.source.splitlines())) <= 120
    for launch in launches:
        function = functions[launch.kernel]
        assert ast.get_docstring(function)
        parameters = [argument.arg for argument in function.args.args]
        assert parameters == [*(name for name, _ in launch.arguments), *launch.constants]
        assigned = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _stored(node)}
        assert not assigned & set(parameters)
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        assert set(parameters) <= used, "a parameter that nobody reads compiles kernels apart for nothing"


def _stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


ANCHORS = (
    *(ops.Conv, ops.ConvDgrad, ops.Linear, ops.LinearDgrad, ops.MaxPool, ops.AvgPool, ops.AvgPoolGrad),
    *(ops.SumPool, ops.ZeroPad, ops.Crop, ops.PadShortcut, ops.Upsample, ops.UpsampleGrad),
    *(ops.ChannelSlice, ops.ChannelShuffle, ops.Maxout, ops.MaxoutGrad, ops.Lrn, ops.LrnGrad),
)


@pytest.mark.parametrize("part", TILE_PARTS, ids=lambda kind: kind.__name__)
def test_text_of_epilogues(part: type[ops.Op]) -> None:
    """No name of an epilogue's operand meets a name of its anchor's."""
    follower, types = EXAMPLES[part]
    for anchor in ANCHORS:
        op, operands = EXAMPLES[anchor]
        results = op.infer(*operands)
        channels = results[0].shape[-1]
        image = {True: results[0], False: _fixed(*results[0].shape)}
        others = tuple(image[kind.batched] if len(kind.shape) == 3 else _fixed(channels) for kind in types[1:])
        start = len(operands) + len(others)
        numbers = (start, *range(len(operands), start))
        fused = Fused(
            (Part("a", op, tuple(range(len(operands)))), Part("b", follower, numbers)), (start + len(results),)
        )
        module = generate(plan_of(fused, (*operands, *others)))
        (launch,) = module.tables[0].steps["step"]
        functions = [node for node in ast.parse(module.source).body if isinstance(node, ast.FunctionDef)]
        function = next(node for node in functions if node.name == launch.kernel)
        assigned = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _stored(node)}
        assert not assigned & {argument.arg for argument in function.args.args}


def test_names_say_what_kernels_do() -> None:
    chain = Fused(
        (
            Part("conv", ops.Conv(SAME), (0, 1)),
            Part("bias", ops.BiasAdd(), (3, 2)),
            Part("relu", ops.Activation("relu"), (4,)),
        ),
        (5,),
    )
    module = generate(plan_of(chain, (X, W, _fixed(36)), target="sm_90", dtype="bfloat16"))
    (launch,) = module.tables[0].steps["step"]
    assert launch.kernel == "conv_fprop_bias_relu"
    assert launch.layers == ("layer",)
    assert launch.step == "step"
    assert "Then bias, relu" in module.source


def test_costs() -> None:
    """Bytes count each operand once, workspace included; FLOPs are twice the multiply-adds."""
    conv = _module(ops.Conv).tables[0].steps["step"][0]
    weights = 36 * 9 * 20
    assert conv.bytes == Size(a=4 * (8 * 8 * 20 + 4 * 4 * 36), c=4 * weights)
    assert conv.flops == Size(a=2 * 4 * 4 * weights)
    op, types = EXAMPLES[ops.ConvWgrad]
    module = generate(plan_of(op, types, tile=Tile(16, 16, 16, 4)))
    (split,) = module.tables[0].steps["step"]
    counters = 3 * 9 * 2  # blocks of filters, taps, blocks of channels
    assert split.bytes.c == 4 * weights + 2 * (4 * 4 * weights + 4 * counters)
    assert split.flops.a == 2 * 4 * 4 * weights
    twice = generate(plan_of(ops.Add(), (X, X), in_place={0: 0})).tables[0].steps["step"][0]
    assert twice.bytes == Size(a=4 * 3 * 8 * 8 * 20)


def test_grid_covers_rows_of_any_batch() -> None:
    launch = _module(ops.Activation, "sm_90", "bfloat16").tables[0].steps["step"][0]
    (programs,) = launch.grid
    block, times = launch.constants["BM"], -(-20 // int(launch.constants["BN"]))
    for n in (1, 63, 64, 65):
        assert programs.at(n) == -(-64 * n // int(block)) * times
    assert Programs(Size(a=3), 4, 5).at(3) == 15


def test_argument_types() -> None:
    """Strides have 64 bits; image sizes are no hint for the compiler."""
    plan = plan_of(ops.Conv(WINDOW), (X, W), target="sm_90", dtype="bfloat16")
    launch = generate(plan).tables[0].steps["step"][0]
    buffers = {buffer.id: buffer for buffer in plan.schedules[0].buffers}
    types = {name: argument_type(argument, buffers) for name, argument in launch.arguments}
    assert (types["x"], types["x_h"], types["N"]) == ("*bf16", "i64", "i32")
    hints = {name for name, argument in launch.arguments if divisible_by_16(argument, buffers)}
    assert hints == {"x", "w", "out", "x_h", "out_h"}  # rows of 8 * 20 and 4 * 36 elements


def test_emitters_are_documented() -> None:
    assert all(inspect.getdoc(emitter) for emitter in EMITTERS.values())
