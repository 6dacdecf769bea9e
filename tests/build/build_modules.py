"""Small hand-written modules: one copy kernel, one matrix product, in plans of one step each."""

from __future__ import annotations

from cnnc.codegen.launch import Integer, Launch, LaunchTable, Module, Pointer, Programs
from cnnc.ir import ops
from cnnc.ir.params import Arena
from cnnc.ir.plan import Buffer, Plan, Schedule, Space, Step
from cnnc.ir.size import Size
from cnnc.source import Source, Span

HEAD = """\
import triton
import triton.language as tl
"""

HELPER = """\

# Every element gets this much.
OFFSET = tl.constexpr(1.0)


@triton.jit
def shifted(value):
    return value + OFFSET
"""

COPY = """\

@triton.jit
def copy(x, y, n, BLOCK: tl.constexpr):
    \"\"\"y = x + 1.\"\"\"
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    tl.store(y + index, shifted(tl.load(x + index, mask=inside)), mask=inside)  # one element each
"""

PRODUCT = """\

@triton.jit
def product(x, w, y, n, K: tl.constexpr, M: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        a = tl.load(x + row[:, None] * K + start + depth[None, :], mask=row[:, None] < n, other=0.0)
        b = tl.load(w + column[None, :] * K + start + depth[:, None])
        total = tl.dot(a, b, total)
    tl.store(y + row[:, None] * M + column[None, :], total.to(y.dtype.element_ty), mask=row[:, None] < n)
"""

TEXT = "model tiny\ninput 8x8x4\nconv 8 3x3\n"


def copy_source(offset: str = "1.0") -> str:
    return f"{HEAD}\n{HELPER.replace('1.0', offset)}\n{COPY}"


def plan(variant: str = "infer", *, dtype: str = "bfloat16", target: str = "sm_90") -> Plan:
    """Two [n, 8, 8, 4] images and a weight; one step named ``conv1`` from line 3 of the text."""
    image = {"dtype": dtype, "shape": (8, 8, 4), "batched": True, "axes": "HWNC", "channels": 4}
    buffers = (
        Buffer(0, "input", Space.INPUT, offset=Size(), size=Size(a=512), **image),
        Buffer(1, "output", Space.OUTPUT, offset=Size(), size=Size(a=512), **image),
        Buffer(2, "conv1.weight", Space.SHADOW, dtype, (64, 64), False, "01", Size(), Size(c=8192)),
    )
    source = Source("tiny.cnn", TEXT)
    span = Span(source, TEXT.index("conv"), len(TEXT) - 1)
    step = Step("conv1", ops.Activation("relu"), (0,), (1,), ("conv1",), span=span)
    schedule = Schedule(1, None, buffers, (), (step,), Size(), Size())
    return Plan("tiny", variant, target, dtype, Arena(()), Arena(()), (schedule,))


def launch(kernel: str, names: str, constants: dict[str, int], *, warps: int = 4, stages: int = 2) -> Launch:
    """Arguments by name: x, y and w are the buffers, n the number of rows."""
    sources = {"x": Pointer(0), "y": Pointer(1), "w": Pointer(2), "n": Integer(Size(a=256))}
    arguments = tuple((name, sources[name]) for name in names)
    grid = (Programs(Size(a=256), constants.get("BLOCK", 64)),)
    return Launch(kernel, arguments, constants, grid, warps, stages, "conv1", ("conv1",), Size(a=1024), Size(a=256))


def module(source: str, *launches: Launch, variant: str = "infer", **options: str) -> Module:
    return Module(plan(variant, **options), source, (LaunchTable(1, None, {}, {"conv1": launches}),))


def copy_module(variant: str = "infer", *, offset: str = "1.0", block: int = 256, warps: int = 4, **kw: str) -> Module:
    return module(copy_source(offset), launch("copy", "xyn", {"BLOCK": block}, warps=warps), variant=variant, **kw)


def product_module(m: int, n: int, k: int = 64, *, warps: int = 4, stages: int = 3) -> Module:
    constants = {"K": 256, "M": 512, "BM": m, "BN": n, "BK": k}
    return module(f"{HEAD}\n{PRODUCT}", launch("product", "xwyn", constants, warps=warps, stages=stages))
