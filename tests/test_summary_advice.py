"""Receptive fields, and advice with its arithmetic."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.ir.model import Model
from cnnc.ir.params import Init
from cnnc.ir.window import Window
from cnnc.report.summary import print_table, summarize, summary_json
from tests.report_networks import Net, naive_inception, resnet


def table(model: Model, width: int = 120) -> str:
    stream = io.StringIO()
    print_table(model, Console(file=stream, width=width))
    return stream.getvalue()


def fire() -> Model:
    """SqueezeNet's module: a 1x1 conv that narrows, then 1x1 and 3x3 beside each other."""
    net = Net(28, 28, 256)
    squeezed = net.conv("squeeze", net.x, 64, 1)
    arms = [net.conv("expand1", squeezed, 256, 1), net.conv("expand3", squeezed, 256, 3)]
    return net.model(net.node("concat1", ops.Concat(), *arms))


def sees(net: Net, y: Value) -> tuple[int, ...] | None:
    return summarize(net.model(y)).rows[-1].receptive_field


def test_three_3x3_see_7x7_and_strides_multiply() -> None:
    net = Net(64, 64, 1)
    y = net.conv("c3", net.conv("c2", net.conv("c1", net.x, 1, 3), 1, 3), 1, 3)
    assert sees(net, y) == (7, 7)
    y = net.pool("p1", y, 2, 2)
    assert sees(net, y) == (8, 8)
    assert sees(net, net.conv("c4", y, 1, 3)) == (12, 12)


def test_dilated_convs_see_their_extent() -> None:
    net = Net(40, 40, 1)
    y = net.x
    for dilation in (1, 2, 4, 8):
        y = net.conv(f"d{dilation}", y, 1, 3, dilation=dilation)
    assert sees(net, y) == (31, 31)


def test_the_longest_of_several_paths_counts() -> None:
    net = Net(8, 8, 4)
    y = net.node("add1", ops.Add(), net.conv("c5", net.x, 4, 5), net.conv("c1", net.x, 4, 1))
    assert sees(net, y) == (5, 5)


def test_up_sampling_makes_steps_finer() -> None:
    net = Net(32, 32, 1)
    y = net.pool("p2", net.pool("p1", net.x, 2, 2), 2, 2)
    up = net.node("up1", ops.Upsample((2, 2)), y)
    assert sees(net, up) == (4, 4)
    assert sees(net, net.conv("c1", up, 1, 3)) == (8, 8)
    smooth = net.node("up2", ops.Upsample((2, 1), "bilinear"), y)
    assert sees(net, smooth) == (8, 4)
    weight = net.constant("up3", (1, 4, 4, 1), Init("bilinear"))
    deconv = net.node("up3", ops.ConvDgrad(Window((4, 4), (2, 2)), (18, 18)), y, weight)
    assert sees(net, deconv) == (8, 8)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(4, 2, 1), (5, 3, 1), (3, 2, 2), (2, 3, 1), (3, 1, 1)])
def test_a_transposed_conv_sees_what_a_perturbation_reaches(kernel: int, stride: int, dilation: int) -> None:
    inputs, extent = 12, (kernel - 1) * dilation + 1
    outputs = (inputs - 1) * stride + extent
    reached = [
        {q for q in range(inputs) for tap in range(kernel) if q * stride + tap * dilation == p} for p in range(outputs)
    ]
    net = Net(inputs, inputs, 1)
    window = Window((kernel, kernel), (stride, stride), dilation=(dilation, dilation))
    weight = net.constant("up", (1, kernel, kernel, 1), Init("bilinear"))
    found = sees(net, net.node("up", ops.ConvDgrad(window, (outputs, outputs)), net.x, weight))
    assert found is not None
    assert found[0] == max(max(seen) - min(seen) + 1 for seen in reached if seen)


def test_option_a_shortcuts_stride() -> None:
    net = Net(16, 16, 2)
    y = net.node("pad1", ops.PadShortcut((2, 2), 4))
    assert sees(net, y) == (1, 1)
    assert sees(net, net.conv("c1", y, 4, 3)) == (5, 5)


# -- advice ---------------------------------------------------------------------------------------------


def test_the_naive_inception_module_becomes_the_lectures_one() -> None:
    (advice,) = summarize(naive_inception()).advice
    assert advice.layers == ("concat1",)
    assert advice.macs == (854_196_224, 271_351_808)
    assert advice.weights == (1_089_536, 346_112)
    for term in ("64 = 256/4", "28x28x480 for 28x28x672", "12,845,056 + 86,704,128", "12,845,056 + 120,422,400"):
        assert term in advice.text
    assert summary_json(naive_inception())["advice"] == [advice.json()]
    assert advice.text in " ".join(table(naive_inception()).split())


def test_a_module_without_pools_is_told_nothing_of_them() -> None:
    net = Net(28, 28, 128)
    arms = [net.conv(f"conv{k}", net.x, 64, k) for k in (3, 5)]
    (advice,) = summarize(net.model(net.node("concat1", ops.Concat(), *arms))).advice
    assert advice.change == "1x1 convs to 32 = 128/4 channels before its larger convs"


def test_a_module_behind_a_1x1_conv_that_narrows_is_left_alone() -> None:
    assert summarize(fire()).advice == ()
    net = Net(28, 28, 64)
    wide = net.conv("widen", net.x, 256, 1)
    arms = [net.conv("conv1", wide, 64, 1), net.conv("conv3", wide, 64, 3)]
    (advice,) = summarize(net.model(net.node("concat1", ops.Concat(), *arms))).advice
    assert advice.layers == ("concat1",)


def test_a_module_that_saves_under_a_hundredth_is_left_alone() -> None:
    net = Net(28, 28, 64)
    arms = [net.conv(f"conv{k}", net.x, 4, k) for k in (1, 3)]
    y = net.node("concat1", ops.Concat(), *arms)
    assert len(summarize(net.model(y)).advice) == 1
    heavy = net.conv("heavy", y, 1000, 11, same=False)
    assert summarize(net.model(heavy)).advice == ()


def test_advice_wraps_set_in_with_numbers_and_units_together() -> None:
    lines = table(naive_inception(), 80).splitlines()
    start = lines.index("cheaper, by the arithmetic of small filters:")
    assert len(lines) > start + 3
    assert all(len(line) <= 80 for line in lines)
    assert lines[start + 1].startswith("  concat1: 1x1 convs")
    assert all(re.match(r" {4}\S", line) for line in lines[start + 2 :])
    assert not any(line.endswith("->") or line.lstrip().startswith(("->", "MACs", "weights")) for line in lines)


@pytest.mark.parametrize(("kernel", "words", "before", "after"), [(7, "three", 49, 27), (5, "two", 25, 18)])
def test_large_kernels_become_3x3s(kernel: int, words: str, before: int, after: int) -> None:
    net = Net(20, 20, 32)
    (advice,) = summarize(net.model(net.conv("conv1", net.x, 32, kernel))).advice
    assert advice.change.startswith(f"{words} 3x3")
    assert advice.weights == (before * 1024, after * 1024)
    assert advice.macs == (before * 1024 * 400, after * 1024 * 400)
    assert f"{before}C^2 -> {after}C^2" in advice.text
    assert f"1x{kernel} then {kernel}x1: {2 * kernel}C^2" in advice.text


def test_equal_convs_share_a_line_and_bottlenecks_are_not_narrowed_again() -> None:
    net = Net(20, 20, 32)
    y = net.conv("conv3", net.conv("conv2", net.x, 32, 3), 32, 3)
    (advice,) = summarize(net.model(y)).advice
    assert advice.layers == ("conv2", "conv3")
    assert advice.weights == (2 * 9 * 1024, 2 * 3328)
    assert "9C^2 -> 3.25C^2" in advice.text
    (block,) = summarize(resnet((1,))).advice
    assert (block.layers, block.change) == (("stage1.1.conv2",), "1x3 then 3x1")
    assert "each" not in block.text


def test_splitting_3x3s_is_one_line_where_nothing_else_is_advised() -> None:
    (advice,) = summarize(resnet((3, 2))).advice
    assert advice.layers == tuple(f"stage{block}.conv2" for block in ("1.1", "1.2", "1.3", "2.1", "2.2"))
    before = 9 * (3 * 64**2 + 2 * 128**2)
    macs = 9 * (3 * 64**2 * 56**2 + 2 * 128**2 * 28**2)
    assert advice.weights == (before, before * 2 // 3)
    assert advice.macs == (macs, macs * 2 // 3)
    assert "each 3x3 as 1x3 then 3x1: 9C^2 -> 6C^2, together" in advice.text
    net = Net(20, 20, 32)
    y = net.conv("conv3", net.conv("conv2", net.conv("conv1", net.x, 32, 1), 32, 3), 32, 3)
    (advice,) = summarize(net.model(y)).advice
    assert (advice.layers, "1x3" in advice.text) == (("conv3",), False)


def test_advice_is_given_only_where_it_is_true() -> None:
    net = Net(20, 20, 3)
    y = net.conv("first", net.x, 64, 7)  # 3 channels: three 3x3 of 64 would cost more
    y = net.conv("wider", y, 128, 5)
    y = net.conv("grouped", y, 128, 5, groups=2)
    y = net.conv("dilated", y, 128, 3, dilation=2)
    y = net.conv("strided", y, 128, 5, stride=2)
    y = net.conv("shrinks", y, 128, 3, same=False)
    y = net.conv("pointwise", y, 128, 1)
    assert summarize(net.model(y)).advice == ()


def test_advice_is_short_and_the_largest_savings_come_first() -> None:
    net = Net(40, 40, 16)
    y = net.x
    for index, width in enumerate((16, 32, 64, 128, 160, 192, 256)):
        y = net.conv(f"square{index}", net.conv(f"widen{index}", y, width, 1), width, 7)
    advice = summarize(net.model(y)).advice
    savings = [item.macs[0] - item.macs[1] for item in advice]
    assert len(advice) == 5
    assert savings == sorted(savings, reverse=True)
    assert advice[0].layers == ("square6",)
