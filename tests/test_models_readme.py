"""The table of ``models/README.md``, written by ``pytest --update``; and the models' other names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cnnc.frontend import load, read_source
from cnnc.ir.types import format_shape
from cnnc.report.summary import summarize
from cnnc.resources import model_aliases

MODELS = Path(__file__).resolve().parent.parent / "models"

HEAD = """\
# Models

Every network of the lectures as a program; `cnnc summary models/NAME.cnn` shows each layer. Parameters are weights,
biases and batch norm's gamma and beta; moving statistics and fixed kernels are counted apart. MACs are multiply-adds of
one image in conv, deconv and dense layers; activations are the input and what conv, deconv, dense and pool layers give,
in float32. Training heads are counted. `pytest tests/test_models_readme.py --update` writes this table, and
`tests/test_models.py` holds every layer against the published facts.

|model|input|parameters|moving|fixed|MACs|activations (MiB)|what it is|
|-|-|-:|-:|-:|-:|-:|-|
"""


def row(path: Path) -> str:
    model = load(read_source(path))
    summary = summarize(model, train=True)
    comment = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    counts = [f"{count:,}" if count else "" for count in (summary.trainable, summary.non_trainable, summary.fixed)]
    memory = f"{summary.activation_bytes / 2**20:,.2f}"
    cells = [f"[{path.stem}]({path.name})", format_shape(summary.input), *counts, f"{summary.macs:,}", memory, comment]
    return "|" + "|".join(cells) + "|\n"


def test_the_table(golden: Callable[[Path, str], None]) -> None:
    rows = "".join(row(path) for path in sorted(MODELS.glob("*.cnn")))
    names = "".join(f"|{name}|{own}|\n" for name, own in sorted(model_aliases().items()))
    golden(MODELS / "README.md", HEAD + rows + f"\nOther names:\n\n|name|model|\n|-|-|\n{names}")


def test_other_names_mean_models_and_hide_none() -> None:
    for name, own in model_aliases().items():
        assert (MODELS / f"{own}.cnn").is_file()
        assert not (MODELS / f"{name}.cnn").exists()
        assert load(read_source(f"models/{name}.cnn")).name == load(read_source(MODELS / f"{own}.cnn")).name


def test_every_model_begins_with_what_it_is() -> None:
    for path in MODELS.glob("*.cnn"):
        assert path.read_text(encoding="utf-8").startswith("# "), path.name
