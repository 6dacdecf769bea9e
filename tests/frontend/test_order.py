"""The slide's letters: names, widths, sizes."""

from __future__ import annotations

import pytest

from cnnc.errors import ProgramError
from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.window import Window
from cnnc.source import Source

HEAD = "input 64x64x3\nCONV: f=3, s=1, same\nPOOL: f=2, s=2\nclasses: 10\n"


def slide(order: str, widths: str, head: str = HEAD) -> Model:
    return load(Source("t", f"{head}Nf: {widths}\nOrder: {order}\n"))


def layers(model: Model) -> list[str]:
    return list(dict.fromkeys(node.layer for node in model.graph.walk() if node.layer != "input"))


def test_names_count_as_vgg_does() -> None:
    assert layers(slide("CP CCP FDFS", "2 3 4")) == [
        *("conv1_1", "pool1", "conv2_1", "conv2_2", "pool2"),
        *("flatten1", "fc3", "dropout1", "fc4", "fc5"),
    ]


def test_a_pool_is_named_for_the_convs_before_it() -> None:
    assert layers(slide("C11/4P C5P C C CP FFS", "2 3 4 4 4 5"))[:8] == [
        *("conv1_1", "pool1", "conv2_1", "pool2", "conv3_1", "conv4_1", "conv5_1", "pool5")
    ]
    assert layers(slide("CPP P G", "2")) == ["conv1_1", "pool1", "pool1_2", "pool1_3", "pool1_4"]


def test_letters() -> None:
    graph = slide("CNP CA CGS", "2 3 4").graph
    assert isinstance(graph["bn1_1"].op, ops.BatchNorm)
    assert isinstance(graph["pool1"].op, ops.MaxPool)
    assert isinstance(graph["pool2"].op, ops.AvgPool)
    assert isinstance(graph["pool3"].op, ops.GlobalAvgPool)
    assert isinstance(graph["fc4.softmax"].op, ops.Softmax)
    assert graph["fc4.softmax"].layer == "fc4"


def test_sizes_and_strides_on_letters() -> None:
    graph = slide("C11/4 C1 C/2 C3x1 P3/2 A3", "2 2 2 2").graph
    windows = {
        node.name: node.op.window for node in graph.walk() if isinstance(node.op, (ops.Conv, ops.MaxPool, ops.AvgPool))
    }
    assert windows == {
        "conv1_1": Window((11, 11), (4, 4), (5, 5, 5, 5)),
        "conv2_1": Window((1, 1)),
        "conv3_1": Window((3, 3), (2, 2), (1, 1, 1, 1)),
        "conv4_1": Window((3, 1), (1, 1), (1, 1, 0, 0)),
        "pool4": Window((3, 3), (2, 2)),
        "pool4_2": Window((3, 3), (2, 2)),
    }


def test_a_tuple_gives_the_letters_of_one_word_their_widths() -> None:
    shapes = {node.name: node.types[0].shape[-1] for node in slide("CC1CP CF", "(4,2^3,5+1) (7,9)").graph.walk()}
    found = [shapes[name] for name in ("conv1_1", "conv1_2", "conv1_3", "conv2_1", "fc3")]
    assert found == [4, 8, 6, 7, 9]


@pytest.mark.parametrize(
    ("default", "kinds"), [("", ["relu", "relu"]), (", tanh", ["tanh", "relu"]), (", linear", ["relu"])]
)
def test_relu_is_understood_unless_the_default_names_an_activation(default: str, kinds: list[str]) -> None:
    model = slide("CP FS", "2 3", HEAD.replace("same", f"same{default}"))
    assert [node.op.kind for node in model.graph.walk() if isinstance(node.op, ops.Activation)] == kinds


def test_order_may_stand_between_explicit_statements() -> None:
    model = load(Source("t", f"{HEAD}conv 8 7x7/2\nOrder: CP\nNf: 4\nfc 3\n"))
    assert layers(model) == ["conv1", "conv1_1", "pool1", "flatten1", "fc1"]


def test_the_slides_own_five_widths_lack_one() -> None:
    with pytest.raises(ProgramError, match="the word `FFS` has no width"):
        slide("CCP CCP CCCP CCCP CCCP FFS", "2^6 2^7 2^8 2^9 2^9")


def test_words_without_c_or_f_take_no_width() -> None:
    assert layers(slide("CP P CG S", "4 5")) == ["conv1_1", "pool1", "pool1_2", "conv2_1", "pool2", "fc3"]
