"""The shipped models against the published facts: every layer's shape, parameters and multiply-adds, and the totals.

Figures and their sources: ``tests/facts.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc.frontend import expand, format_source, load, read_source
from cnnc.frontend.vocabulary import KEYWORDS
from cnnc.ir import ops
from cnnc.ir.printer import print_graph
from cnnc.ir.verify import verify
from cnnc.report.summary import summary_json
from cnnc.source import Source
from tests.facts import FACTS, is_in_head

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted((ROOT / "models").glob("*.cnn"))
COMPARED = ("op", "output", "params", "macs")

# Networks in blocks name their layers by scopes (`stage1.2.conv3`); these have the papers' own names.
NAMED = ("lenet", "mnist", "fashion", "alexnet", "zfnet", "vgg", "nin", "alphago", "two_layer", "fully", "convnet")
NAMED += ("x_or_o", "xo_slash", "layer")


@pytest.mark.parametrize("network", FACTS)
def test_every_layer_and_the_totals_are_exact(network: str) -> None:
    facts = FACTS[network]
    found = summary_json(load(read_source(ROOT / "models" / f"{network}.cnn")), train=True)
    rows = sorted(found["layers"], key=lambda row: is_in_head(row["name"]))
    layers = [{key: row[key] for key in COMPARED} for row in rows]
    assert found["name"] == network
    assert found["input"] == facts["input"]
    assert layers == [{key: row[key] for key in COMPARED} for row in facts["layers"]]
    assert found["totals"] == {"fixed": 0, **facts["totals"]}


@pytest.mark.parametrize("network", [name for name in FACTS if name.startswith(NAMED)])
def test_layers_have_the_names_of_the_papers(network: str) -> None:
    found = summary_json(load(read_source(ROOT / "models" / f"{network}.cnn")))["layers"]
    for row, layer in zip(found, FACTS[network]["layers"], strict=True):
        # Keywords can't be labels, and a batch norm is named for its layer.
        wanted = f"{layer['name']}1" if layer["name"] in KEYWORDS else layer["name"]
        assert row["name"].lower() == wanted.lower() or row["name"].endswith(".bn")


def test_there_are_facts_for_every_published_model() -> None:
    assert {path.stem for path in MODELS} - set(FACTS) == {"lenet5", "resnet1202_cifar", "vgg16"}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_are_formatted_and_expand_to_the_same_graph(path: Path) -> None:
    source = read_source(path)
    model = load(source)
    graph = print_graph(verify(model.graph))
    assert format_source(source) == source.text
    expanded = load(Source("expanded", expand(model)))
    assert print_graph(expanded.graph) == graph
    assert expanded.train == model.train


def test_the_slide_as_typed() -> None:
    lines = ["CONV: f=3, s=1, same", "POOL: f=2, s=2", "Order: CCP CCP CCCP CCCP CCCP FFS"]
    lines += ["Nf: 2^6 2^7 2^8 2^9 2^9 2^12", "classes: 1000"]
    text = "\n".join(["model vgg16", "input 224x224x3", *lines])
    totals = summary_json(load(read_source(text)))["totals"]
    assert totals["trainable"] == 138_357_544
    assert totals["macs"] == 15_470_264_320
    assert totals["non_trainable"] == 0


def test_lenet5_trains_as_its_text_says() -> None:
    model = load(read_source(ROOT / "models" / "lenet5.cnn"))
    assert model.input_shape == (32, 32, 1)
    assert (model.train.optimizer.lr, model.train.optimizer.momentum) == (0.02, 0.9)
    assert (model.train.batch, model.train.epochs) == (32, 10)
    kinds = [node.op.kind for node in model.graph.walk() if isinstance(node.op, ops.Activation)]
    assert kinds == ["relu"] * 4
    assert sum(isinstance(node.op, ops.MaxPool) for node in model.graph.walk()) == 2
