"""The ``train`` block to a TrainConfig."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import integer
from cnnc.frontend.settings import choose, number
from cnnc.ir.training import Sgd, TrainConfig

LOSSES = ("cross_entropy",)
OPTIMIZERS = ("sgd",)
DECAYS = ("all", "weights")


@dataclass(frozen=True)
class Training:
    """The configuration, and whether biases and batch norm decay too (``decay=all``, PyTorch's default)."""

    config: TrainConfig = TrainConfig()
    decay_all: bool = True


def training(block: ast.Train | None, diagnostics: Diagnostics) -> Training:
    """Read a train block; what it leaves out has defaults. Errors are noted."""
    if block is None:
        return Training()
    settings: dict[str, ast.Setting] = {}
    for setting in block.settings:
        if isinstance(setting, ast.Broken):
            continue
        if settings.setdefault(setting.keyword.text, setting) is not setting:
            diagnostics.add(setting.span, f"`{setting.keyword.text}` is given twice")
    loss = _named(settings.get("loss"), "loss", LOSSES, diagnostics)
    optimizer, decay_all = _optimizer(settings.get("optimizer"), diagnostics)
    batch = _count(settings.get("batch"), TrainConfig.batch, diagnostics)
    epochs = _count(settings.get("epochs"), TrainConfig.epochs, diagnostics)
    return Training(TrainConfig(loss, optimizer, batch, epochs), decay_all)


def _named(setting: ast.Setting | None, what: str, known: tuple[str, ...], diagnostics: Diagnostics) -> str:
    if setting is None:
        return known[0]
    assert isinstance(setting.value, ast.Name)
    if setting.value.text not in known:
        hint = vocabulary.choice(setting.value.text, known, "known:")
        diagnostics.add(setting.value.span, f"unknown {what} `{setting.value.text}`", hint)
    return setting.value.text


def _optimizer(setting: ast.Setting | None, diagnostics: Diagnostics) -> tuple[Sgd, bool]:
    _named(setting, "optimizer", OPTIMIZERS, diagnostics)
    if setting is None:
        return Sgd(), True
    chosen = choose(setting.options, "sgd", diagnostics) or {}
    lr = number(chosen.get("lr"), Sgd.lr, diagnostics)
    momentum = number(chosen.get("momentum"), Sgd.momentum, diagnostics)
    weight_decay = number(chosen.get("weight_decay"), Sgd.weight_decay, diagnostics)
    decay = chosen.get("decay")
    which = decay.value.text if decay is not None and isinstance(decay.value, ast.Name) else "all"
    if decay is not None and which not in DECAYS:
        diagnostics.add(decay.span, f"unknown `decay={which}`", "write `decay=all` or `decay=weights`")
    if lr is None or momentum is None or weight_decay is None:
        return Sgd(), True
    return Sgd(lr, momentum, weight_decay), which == "all"


def _count(setting: ast.Setting | None, default: int, diagnostics: Diagnostics) -> int:
    if setting is None:
        return default
    assert not isinstance(setting.value, ast.Name) or setting.value.depth == 0
    found = integer(setting.value, diagnostics, 1, f"`{setting.keyword.text}`")
    return default if found is None else found
