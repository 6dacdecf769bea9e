"""``cnnc explain``: stated bytes against what launches point to, JSON, the table, and reasons."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from cnnc.cli import main
from cnnc.codegen import generate
from cnnc.codegen.context import logical_bytes
from cnnc.codegen.launch import Descriptor, Launch, Pointer
from cnnc.frontend import load, read_source
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Schedule, Step
from cnnc.passes.pipelines import OPTIONAL, compile_plan, optimise
from cnnc.passes.roofline import Roofline
from cnnc.report.explain import explain
from cnnc.report.explain_table import print_explained
from cnnc.resources import resource
from tests.passes.test_roofline import DENSENET

GOLDEN = Path(__file__).parent / "data" / "explain_small.txt"
SMALL = """\
model small
input 9x9x3
conv1: conv 16 3x3 same bn relu
maxpool 3x3/2
block unit(w) { add { | conv w 1x1/2 bn relu; conv w 3x3 same linear | shortcut B } relu }
CONV: bn
unit(32)
globalavgpool
fc 5
softmax
train { loss cross_entropy }
"""
# Every way of reading a part of something: strides, slices, crops, picked pixels, positions.
PARTS = """\
model parts
input 11x10x6
conv1: conv 8 1x1/3 relu
conv2: deconv 8 3x3/2 relu
add { | conv 16 3x3/2 same | shortcut A } relu
concat { | conv 4 1x1 | identity | avgpool 3x3/1 same; conv 8 1x1 relu }
conv 12 3x3 pad=2 groups=4
maxpool 1x1/2
conv 3 1x1
softmax
train { loss cross_entropy }
"""
NETWORKS = ("lenet5", "resnet20_cifar", "googlenet", "alexnet_grouped", "fcn16s", "mobile", SMALL, DENSENET, PARTS)
KEYS = {"name", "layers", "kernel", "bytes", "issued_bytes", "flops", "roofline_us", "why_not"}
TOTALS = {"bytes", "issued_bytes", "flops", "roofline_us", "kernels"}
VARIANTS = ("infer", "loss", "update", "cast")
DEPTHWISE = """\
model mobile
input 12x12x3
conv1: conv 16 3x3/2 same bn relu
dwconv 3x3 same bn relu
conv 24 1x1 bn relu
dwconv 3x3/2 same bn relu
conv 40 1x1 bn relu
lrn
globalavgpool
dropout 0.1
fc 7
softmax
train { loss cross_entropy }
"""


def network(name: str) -> Model:
    if name == "mobile":
        return load(read_source(DEPTHWISE))
    return load(read_source(name if name.startswith("model ") else resource("models", f"{name}.cnn")))


def by_name(name: str) -> str:
    return name.split()[1] if name.startswith("model ") else name


# -- bytes ------------------------------------------------------------------------------------------


def launches(model: Model, variant: str) -> Iterator[tuple[Schedule, Step, list[Launch]]]:
    module = generate(compile_plan(model, variant, "sm_90", "bfloat16"))
    for schedule, table in zip(module.plan.schedules, module.tables, strict=True):
        for steps, found in ((schedule.prepare, table.prepare), (schedule.steps, table.steps)):
            for step in steps:
                yield schedule, step, list(found[step.name])


def pointed_bytes(step: Step, launch: Launch, buffers: dict[int, Buffer], n: int) -> int:
    """Bytes of all buffers that a launch gets pointers or descriptors to: each once, twice if it is read and written.

    The buffer of a slice is the slice.
    """
    inner = {step.workspace, step.counters} if step.counters is not None else set()
    total = 0
    for index in {argument.buffer for _, argument in launch.arguments if isinstance(argument, Pointer | Descriptor)}:
        times = 1 + ((index in step.inputs and index in step.outputs) or index in inner)
        total += times * logical_bytes(buffers[index]).at(n)
    return total


def padding(step: Step, buffers: dict[int, Buffer], n: int) -> int:
    """Bytes by which a workspace may be larger than the partial results in it."""
    if step.workspace is None:
        return 0
    return (ALIGN_BYTES - 1) * (n if buffers[step.workspace].batched else 1)


def unread_bytes(step: Step, buffers: dict[int, Buffer], n: int) -> int:
    """Bytes of a step's operands that it steps over, pixel by pixel and element by element."""
    read: dict[int, int] = {}
    alone = ops.Part("", step.op, tuple(range(len(step.inputs))))
    for part in step.op.parts if isinstance(step.op, ops.Fused) else (alone,):
        for slot, number in enumerate(part.operands):
            if number < len(step.inputs):
                index = step.inputs[number]
                size = logical_bytes(buffers[index]).at(n)
                read[index] = max(read.get(index, 0), int(size * fraction_read(part.op, slot, buffers[index].shape)))
    return sum(logical_bytes(buffers[index]).at(n) - count for index, count in read.items())


def fraction_read(op: ops.Op, slot: int, shape: tuple[int, ...]) -> Fraction:
    image = 1 if isinstance(op, ops.ConvWgrad) else 0
    if isinstance(op, ops.Conv | ops.MaxPool | ops.AvgPool | ops.SumPool | ops.ConvWgrad) and slot == image:
        window = op.window
        rows, columns = (
            {
                p * window.stride[axis] - window.pad[2 * axis] + r * window.dilation[axis]
                for p in range(window.output((shape[0], shape[1]))[axis])
                for r in range(window.kernel[axis])
            }
            & set(range(shape[axis]))
            for axis in (0, 1)
        )
        return Fraction(len(rows) * len(columns), shape[0] * shape[1])
    if isinstance(op, ops.PadShortcut):
        picked = len(range(0, shape[0], op.stride[0])) * len(range(0, shape[1], op.stride[1]))
        return Fraction(picked, shape[0] * shape[1])
    if isinstance(op, ops.Crop):
        return Fraction(op.size[0] * op.size[1], shape[0] * shape[1])
    if isinstance(op, ops.ChannelSlice):
        return Fraction(op.count, shape[-1])
    return Fraction(op.count, shape[0]) if isinstance(op, ops.RowSlice) else Fraction(1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NETWORKS, ids=by_name)
def test_stated_bytes_are_those_of_the_operands(name: str, variant: str) -> None:
    checked = 0
    for schedule, step, found in launches(network(name), variant):
        n, buffers = max(3, schedule.low), {buffer.id: buffer for buffer in schedule.buffers}
        if isinstance(step.op, ops.Split | ops.Concat):
            continue  # below: one copy a launch
        for launch in found:
            unread = unread_bytes(step, buffers, n) if launch is found[0] else 0
            rest = pointed_bytes(step, launch, buffers, n) - unread - launch.bytes.at(n)
            assert 0 <= rest <= padding(step, buffers, n), (step.name, launch)
            checked += 1
    assert checked >= 1


@pytest.mark.parametrize("variant", ["infer", "loss"])
def test_copies_of_slices_state_theirs(variant: str) -> None:
    """Whatever a concatenation or a split copies, it reads and writes once."""
    for schedule, step, found in launches(network("googlenet"), variant):
        if not isinstance(step.op, ops.Split):
            continue
        buffers = {buffer.id: buffer for buffer in schedule.buffers}
        written = [logical_bytes(buffers[index]).at(5) for index in step.outputs if index is not None]
        assert [launch.bytes.at(5) for launch in found] == [2 * count for count in written]


@pytest.mark.parametrize("name", ["resnet20_cifar", "googlenet", "mobile", SMALL, DENSENET], ids=by_name)
def test_launches_and_the_model_of_passes_agree(name: str) -> None:
    """What fusion decides by is what kernels state, partial sums of a tile's choice aside."""
    model = network(name)
    costs = Roofline(optimise(model, "infer"), 64).costs().values()
    totals = explain(model, batch=64, dtype="bfloat16", target="sm_90").totals
    assert (totals.bytes, totals.flops) == (sum(c.bytes for c in costs), sum(c.flops for c in costs))
    assert totals.roofline_us == pytest.approx(sum(c.roofline_us for c in costs), rel=1e-12)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", NETWORKS, ids=by_name)
def test_tiles_issue_at_least_what_they_need(name: str, train: bool) -> None:
    found = explain(network(name), batch=33, dtype="bfloat16", target="sm_90", train=train)
    assert [group for group in found.groups if group.issued_bytes < group.bytes] == []
    assert found.totals.issued_bytes > found.totals.bytes


def test_issued_bytes_of_a_product_by_hand() -> None:
    """512 rows, 48 columns and a depth of 80, in tiles that cover each of them."""
    model = load(read_source("model one\ninput 4x4x80\nconv 48 1x1 nobias\n"))
    plan = compile_plan(model, "infer", "sm_90", "bfloat16")
    tile = plan.schedule(32).steps[0].tile
    assert tile is not None
    rows, columns, depth = -(-512 // tile.m), -(-48 // tile.n), -(-80 // tile.k) * tile.k
    wanted = rows * columns * (depth * (tile.m + tile.n) + tile.m * tile.n)
    (group,) = explain(model, batch=32, dtype="bfloat16", target="sm_90").groups
    assert group.issued_bytes == 2 * wanted
    assert group.bytes == 2 * (512 * 80 + 512 * 48 + 80 * 48)


# -- what is printed --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--train"]])
def test_json_has_these_keys(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(resource("models", "resnet20_cifar.cnn"))
    assert main(["explain", path, "--batch", "16", "--dtype", "fp16", "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"name", "batch", "dtype", "target", "groups", "totals", "alone"}
    assert [found[key] for key in ("name", "batch", "dtype", "target")] == ["resnet20_cifar", 16, "float16", "sm_90"]
    assert all(set(group) == KEYS for group in found["groups"])
    assert set(found["totals"]) == set(found["alone"]) == TOTALS
    assert found["totals"]["kernels"] == len(found["groups"])
    for key in TOTALS - {"kernels"}:
        assert found["totals"][key] == pytest.approx(sum(group[key] for group in found["groups"]), rel=1e-12)
        assert found["totals"][key] <= found["alone"][key] or key == "issued_bytes"
    assert found["totals"]["kernels"] < found["alone"]["kernels"]


def test_a_training_step_has_its_update_and_the_cast_of_its_weights() -> None:
    def kernels(dtype: str) -> list[str]:
        found = explain(network(SMALL), batch=8, dtype=dtype, target="sm_90", train=True)
        assert found.prepared == ()
        return [group.name for group in found.groups]

    assert kernels("bfloat16")[-2:] == ["sgd_update", "cast_arena"]
    assert kernels("float32")[-1] == "sgd_update"


def test_folded_weights_are_in_no_total() -> None:
    found = explain(network(SMALL), batch=8, dtype="bfloat16", target="sm_90")
    assert found.prepared
    assert all(group.kernel.startswith("fold_") for group in found.prepared)
    assert not {group.name for group in found.prepared} & {group.name for group in found.groups}
    assert found.totals.bytes == sum(group.bytes for group in found.groups)


def test_every_group_says_why_it_ends() -> None:
    found = explain(network("resnet20_cifar"), batch=8, dtype="bfloat16", target="sm_90")
    assert all(group.why_not for group in found.groups)
    assert "%" not in "".join(group.why_not for group in found.groups)
    bare = explain(network(SMALL), batch=8, dtype="bfloat16", target="sm_90", without=frozenset(OPTIONAL))
    assert "fuse_epilogues was left out" in {group.why_not for group in bare.groups}


@pytest.mark.parametrize("width", [80, 150])
def test_the_table_fits(width: int) -> None:
    stream = io.StringIO()
    print_explained(
        explain(network("resnet20_cifar"), batch=128, dtype="bfloat16", target="sm_90", train=True),
        Console(file=stream, width=width),
    )
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("every op alone: ")


def test_the_table_of_a_small_network(golden: Callable[[Path, str], None]) -> None:
    stream = io.StringIO()
    print_explained(
        explain(network(SMALL), batch=128, dtype="bfloat16", target="sm_90"), Console(file=stream, width=140)
    )
    golden(GOLDEN, "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "sm_12"], "sm_12"),
        (["--dtype", "fp64"], "float64 runs on device cpu only"),
        (["--without", "dead_code"], "dead_code can't be left out; choose from pointwise_conv, "),
        (["--without", "fuse_epilogues,speed"], "there is no pass 'speed' to leave out; choose from pointwise_conv, "),
    ],
)
def test_wrong_arguments_get_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(resource("models", "lenet5.cnn")), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cnnc: error: ")
    assert sentence in captured.err
