"""Pictures: boxes, folded repeats, shapes on edges."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.model import Model
from cnnc.ir.params import Init
from cnnc.ir.window import Window
from cnnc.report.picture.boxes import Box, boxes_of
from cnnc.report.picture.draw import picture_text
from cnnc.report.picture.fold import Group, Leaf, Picture, fold
from tests.report_networks import Net, inception, resnet


def named(model: Model, *, train: bool = False) -> dict[str, Box]:
    return {box.name: box for box in boxes_of(model, train=train)}


def drawn(picture: Picture) -> list[tuple[str, int]]:
    """Names of what is drawn and how often it comes, blocks before what is in them."""

    def walk(items: tuple[Leaf | Group, ...]) -> Iterator[tuple[str, int]]:
        for item in items:
            if isinstance(item, Leaf):
                yield picture.boxes[item.box].name, item.count
            else:
                yield f"[{item.label}]", item.count
                yield from walk(item.items)

    return list(walk(picture.items))


def folded(model: Model) -> list[tuple[str, int]]:
    return drawn(fold(boxes_of(model)))


# -- boxes ----------------------------------------------------------------------------------------------


def test_a_conv_its_batch_norm_and_activation_are_one_box() -> None:
    net = Net(9, 9, 3)
    y = net.conv("conv1", net.x, 4, 3, stride=2, bn=True)
    y = net.node("dropout1", ops.Dropout(0.25, 0), net.fc("fc1", y, 5))
    boxes = boxes_of(net.model(net.node("softmax1", ops.Softmax(), y)))
    assert [(box.name, box.lines, box.shape) for box in boxes] == [
        ("input", (), "9x9x3"),
        ("conv1", ("3x3 conv, 4, /2", "bn, relu"), "5x5x4"),
        ("fc1", ("fc 5", "dropout 0.25, softmax"), "5"),
        ("output", (), "5"),
    ]
    assert [box.inputs for box in boxes] == [(), (0,), (1,), (2,)]


def test_pre_activation_stands_before_its_conv() -> None:
    net = Net(9, 9, 4)
    x = net.conv("conv1", net.x, 4, 3)
    y = net.node("relu1", ops.Activation("relu"), net.norm("bn1", x))
    y = net.conv("conv2", y, 2, 3, relu=False)
    boxes = named(net.model(net.node("concat1", ops.Concat(), x, y)))
    assert boxes["conv2"].lines == ("bn, relu", "3x3 conv, 2")
    assert boxes["concat1"].inputs == (1, 2)


def test_a_separable_conv_is_one_box() -> None:
    net = Net(9, 9, 4)
    y = net.conv("s1.depthwise", net.x, 4, 3, stride=2, groups=4, relu=False)
    y = net.conv("s1.pointwise", y, 8, 1, bn=True)
    y = net.conv("dw", y, 8, 3, groups=8)  # an activation between: two convs
    model = net.model(net.conv("pw", y, 2, 1, relu=False))
    assert [(box.name, *box.lines) for box in boxes_of(model)[1:-1]] == [
        ("s1", "3x3 separable conv, 8, /2", "bn, relu"),
        ("dw", "3x3 depthwise conv, 8", "relu"),
        ("pw", "1x1 conv, 2"),
    ]


def test_batch_norm_behind_a_merge_begins_what_follows() -> None:
    net = Net(9, 9, 4)
    x = net.node("concat1", ops.Concat(), net.x, net.conv("conv1", net.x, 4, 3))
    y = net.conv("conv2", net.node("relu1", ops.Activation("relu"), net.norm("bn1", x)), 2, 3, relu=False)
    boxes = named(net.model(net.node("globalavgpool1", ops.GlobalAvgPool(), y)))
    assert boxes["concat1"].lines == ("concat",)
    assert boxes["conv2"].lines == ("bn, relu", "3x3 conv, 2")


def test_a_value_that_two_layers_read_ends_its_box() -> None:
    net = Net(9, 9, 4)
    x = net.conv("conv1", net.x, 4, 3, relu=False)
    y = net.norm("bn1", x)
    boxes = named(net.model(net.node("add1", ops.Add(), x, y)))
    assert boxes["conv1"].lines == ("3x3 conv, 4",)
    assert boxes["bn1"].lines == ("bn",)


def test_an_output_in_the_middle_ends_its_box() -> None:
    net = Net(9, 9, 4)
    x = net.conv("conv1", net.x, 4, 3, relu=False)
    heads = [("aux1", x)]
    model = net.model(net.norm("bn1", x), heads=heads)
    assert list(named(model)) == ["input", "conv1", "output"]
    assert list(named(model, train=True)) == ["input", "conv1", "bn1", "head aux1, loss weight 0.3", "output"]


def test_heads_are_drawn_with_train_alone() -> None:
    net = Net(8, 8, 3)
    shared = net.conv("conv1", net.x, 4, 3)
    aux = net.fc("aux1.fc1", shared, 5)
    model = net.model(net.fc("fc1", shared, 5), heads=[("aux1", aux)])
    assert "aux1" not in picture_text(model)
    assert "head aux1, loss weight 0.3" in picture_text(model, train=True)


def words(layer: str, op: ops.Op, net: Net, *operands: Value) -> tuple[str, ...]:
    return named(net.model(net.node(layer, op, *operands)))[layer].lines


def test_other_layers_in_words() -> None:
    assert words("up", ops.Upsample((2, 2), "bilinear"), Net(4, 4, 2)) == ("bilinear up, x2x2",)
    assert words("crop1", ops.Crop((1, 1), (2, 2)), Net(4, 4, 2)) == ("crop",)
    assert words("lrn1", ops.Lrn(), Net(4, 4, 2)) == ("lrn",)
    assert words("short", ops.PadShortcut((2, 2), 8), Net(4, 4, 2)) == ("subsample and zero-fill, 8, /2",)
    net = Net(4, 4, 2)
    weight = net.constant("up", (2, 3, 3, 5), Init("uniform", 1), listed=True)
    assert words("up", ops.ConvDgrad(Window((3, 3), (2, 2)), (9, 9)), net, net.x, weight) == (
        "3x3 deconv, 5, stride 2",
    )
    net = Net(4, 4, 6)
    net.conv("dw", net.x, 6, 3, groups=6, relu=False)
    net.conv("gr", net.x, 6, 3, groups=2, relu=False, dilation=2)
    boxes = named(net.model(net.x))
    assert boxes["dw"].lines == ("3x3 depthwise conv, 6",)
    assert boxes["gr"].lines == ("3x3 conv, 6, dilation 2, 2 groups",)


def test_a_scaled_arm_is_said_in_its_add() -> None:
    net = Net(4, 4, 2)
    y = net.conv("conv1", net.x, 2, 1)
    y = net.node("add1", ops.Add(), net.x, net.node("add1", ops.Scale(0.2), y))
    box = named(net.model(net.node("add1", ops.Activation("relu"), y)))["add1"]
    assert box.lines == ("add", "one arm x 0.2, relu")
    assert sorted(box.inputs) == [0, 1]


def test_layers_of_different_blocks_do_not_share_a_box() -> None:
    net = Net(9, 9, 4)
    arms = [net.conv(f"fire.conv{k}", net.x, 4, k) for k in (1, 3)]
    y = net.node("fire.concat1", ops.Concat(), *arms)
    y = net.conv("next.conv1", net.node("dropout1", ops.Dropout(0.5, 0), y), 4, 1, bn=True)
    boxes = named(net.model(net.node("relu1", ops.Activation("relu"), net.pool("pool1", y, 2, 2))))
    assert boxes["fire.concat1"].lines == ("concat",)
    assert boxes["dropout1"].lines == ("dropout 0.5",)
    assert boxes["next.conv1"].lines == ("1x1 conv, 4", "bn, relu")  # its batch norm is ``next.conv1.bn``
    assert boxes["pool1"].lines == ("2x2 max pool, /2", "relu")


def test_a_separable_conv_has_no_block_of_its_own() -> None:
    net = Net(9, 9, 4)
    y = net.node("relu1", ops.Activation("relu"), net.x)
    y = net.conv("s1.pointwise", net.conv("s1.depthwise", y, 4, 3, groups=4, relu=False), 8, 1, bn=True, relu=False)
    boxes = named(net.model(net.node("relu2", ops.Activation("relu"), y)))
    assert boxes["s1"].lines == ("relu", "3x3 separable conv, 8", "bn, relu")


def test_a_pool_says_stride_one_too() -> None:
    net = Net(9, 9, 4)
    y = net.pool("pool1", net.x, 3, 1, same=True)
    y = net.pool("pool3", net.pool("pool2", y, 3, 2), 1, 1)
    y = net.node("pool4", ops.AvgPool(Window((4, 4))), y)
    boxes = named(net.model(y))
    assert [boxes[f"pool{number}"].lines for number in (1, 2, 3, 4)] == [
        ("3x3 max pool, /1",),
        ("3x3 max pool, /2",),
        ("1x1 max pool",),
        ("4x4 average pool, /1",),
    ]


# -- folding --------------------------------------------------------------------------------------------


def test_equal_convs_in_a_row_fold_without_scopes() -> None:
    net = Net(19, 19, 48)
    y = net.conv("conv1", net.x, 192, 5)
    for number in range(2, 13):
        y = net.conv(f"conv{number}", y, 192, 3)
    model = net.model(net.conv("conv13", y, 1, 1, relu=False))
    assert folded(model) == [("input", 1), ("conv1", 1), ("conv2", 11), ("conv13", 1), ("output", 1)]
    assert "conv2 to conv12" in picture_text(model)
    assert "&times;11" in picture_text(model)


def test_resnet_152_folds_to_its_stages() -> None:
    found = [item for item in folded(resnet((3, 8, 36, 3))) if item[0].startswith("[stage")]
    assert [item for item in found if item[1] > 1] == [
        ("[stage1.2 to stage1.3]", 2),
        ("[stage2.2 to stage2.8]", 7),
        ("[stage3.2 to stage3.36]", 35),
        ("[stage4.2 to stage4.3]", 2),
    ]


def test_a_repeat_of_several_layers_without_scope_folds() -> None:
    net = Net(8, 8, 4)
    x = net.conv("first", net.x, 4, 5)
    for number in range(6):
        y = net.conv(f"b{number}", net.conv(f"a{number}", x, 4, 3), 4, 1, relu=False)
        x = net.node(f"add{number}", ops.Add(), x, y)
    found = folded(net.model(net.conv("last", x, 2, 1)))
    assert found == [
        ("input", 1), ("first", 1), ("[]", 6), ("a0", 1), ("b0", 1), ("add0", 1), ("last", 1), ("output", 1)
    ]  # fmt: skip


def test_repeats_in_repeats() -> None:
    net = Net(8, 8, 4)
    x = net.conv("first", net.x, 4, 5)
    for number in range(3):
        y = x
        for inner in range(4):
            y = net.conv(f"block{number}.conv{inner}", y, 4, 3)
        x = net.node(f"block{number}.add1", ops.Add(), x, y)
    found = folded(net.model(net.conv("last", x, 2, 1)))
    assert found[2:5] == [("[block0 to block2]", 3), ("block0.conv0", 4), ("block0.add1", 1)]


def test_layers_of_a_dense_block_fold_although_channels_grow() -> None:
    net = Net(8, 8, 16)
    x = net.conv("conv1", net.x, 16, 3)
    for number in range(6):
        y = net.node(f"relu{number}", ops.Activation("relu"), net.norm(f"bn{number}", x))
        x = net.node(f"concat{number}", ops.Concat(), x, net.conv(f"grow{number}", y, 12, 3, relu=False))
    model = net.model(net.conv("last", x, 2, 1))
    assert folded(model)[2:5] == [("[]", 6), ("grow0", 1), ("concat0", 1)]
    text = picture_text(model)
    assert "up to 8x8x88" in text
    assert re.findall(r'label=" ([0-9x]+)"', text) == ["8x8x16", "8x8x12", "8x8x88", "8x8x2"]


def test_other_shapes_or_strides_do_not_fold() -> None:
    net = Net(32, 32, 8)
    y = net.conv("conv2", net.conv("conv1", net.x, 8, 3), 8, 3, stride=2)
    y = net.conv("conv4", net.conv("conv3", y, 8, 3), 8, 3, relu=False)
    assert all(count == 1 for _, count in folded(net.model(y)))


def test_a_value_that_is_read_from_outside_keeps_its_block() -> None:
    net = Net(8, 8, 4)
    values = [net.x]
    for number in range(4):
        values.append(net.conv(f"conv{number}", values[-1], 4, 3))
    assert ("conv0", 4) in folded(net.model(values[-1]))
    gathered = net.node("add1", ops.Add(), values[2], values[4])
    found = folded(net.model(gathered))
    assert ("conv0", 2) in found
    assert ("conv2", 2) in found


def test_blocks_that_read_an_older_value_do_not_fold() -> None:
    net = Net(8, 8, 4)
    first = net.conv("conv0", net.x, 4, 5)
    x = first
    for number in range(1, 4):
        y = net.conv(f"block{number}.conv1", x, 4, 3)
        x = net.node(f"block{number}.add1", ops.Add(), first, y)
    assert all(count == 1 for _, count in folded(net.model(x)))


def test_every_edge_leads_from_and_to_what_is_drawn() -> None:
    text = picture_text(resnet((3, 8, 36, 3)))
    nodes = set(re.findall(r"^ +(n\d+) \[", text, re.MULTILINE))
    edges = re.findall(r"(n\d+) -> (n\d+)", text)
    assert {end for edge in edges for end in edge} == nodes
    assert len(nodes) == 2 + 2 + 4 * (5 + 4) + 2
    # All but the input and its like are reached, and each block is joined to the next.
    assert {target for _, target in edges} == nodes - {"n0"}


def test_shapes_stand_on_edges_and_colours_in_the_legend() -> None:
    net = Net(28, 28, 192)
    text = picture_text(net.model(inception(net, "inception3a", net.x, (64, 96, 128, 16, 32, 32))))
    for shape in ("28x28x64", "28x28x96", "28x28x128", "28x28x16", "28x28x32", "28x28x192", "28x28x256"):
        assert f'label=" {shape}"' in text
    legend = text[text.index("legend [") :]
    assert [kind in legend for kind in ("convolution", "pool", "merge", "fully")] == [True, True, True, False]


def test_a_thousand_layers_fold_quickly_to_a_few_boxes() -> None:
    net = Net(32, 32, 16)
    x = net.conv("conv1", net.x, 16, 3)
    for number in range(300):
        y = net.conv(f"stage1.{number}.conv2", net.conv(f"stage1.{number}.conv1", x, 16, 3), 16, 3, relu=False)
        x = net.node(f"stage1.{number}.add1", ops.Add(), x, y)
    assert len(folded(net.model(x))) == 8
