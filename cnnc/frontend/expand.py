"""Any program in explicit statements: no defaults, no slide, no blocks; every layer labelled and its shape asserted."""

from __future__ import annotations

from dataclasses import replace

from cnnc.frontend.build_graph import Built
from cnnc.frontend.expand_layers import layer_text, norm_before, norm_text
from cnnc.frontend.layer_parts import Norm
from cnnc.frontend.layers import FromLayer, HeadEnd, HeadStart
from cnnc.frontend.lower import Lowered
from cnnc.frontend.table import Line, align
from cnnc.frontend.train_block import Training
from cnnc.ir.training import TrainConfig
from cnnc.ir.types import format_shape


def expand_lowered(lowered: Lowered) -> str:
    """The program's text in explicit statements; it lowers to the same graph."""
    model = lowered.model
    head = f"model {model.name}\ninput {format_shape(model.shown(model.input_shape))}\n\n"
    lines = align(_Expansion(model.sequence).lines(lowered.built))
    return head + "".join(line + "\n" for line in lines) + _train_text(lowered.training)


class _Expansion:
    """Writes layers one after another, with ``from`` where one does not read the one before."""

    def __init__(self, sequence: bool) -> None:
        self.sequence = sequence
        self.norm = Norm()  # what `bn` alone means at this line of the new text
        self.current = "input"
        self.around = (self.norm, self.current)  # outside the head that is open

    def lines(self, built: tuple[Built, ...]) -> list[Line]:
        lines: list[Line] = []
        group = indent = 0  # of the head that is open
        for item in built:
            indent = 0 if isinstance(item.layer, HeadEnd) else indent
            own = group if indent else 0
            lines += [replace(line, indent=indent, group=own) for line in self._item(item)]
            if isinstance(item.layer, HeadStart):
                group, indent = group + 1, 2
        return lines

    def _item(self, item: Built) -> list[Line]:
        layer = item.layer
        if isinstance(layer, HeadStart):
            self.around = (self.norm, self.current)
            return [Line(body=f"head {layer.name} loss={layer.weight!r} {{", free=True)]
        if isinstance(layer, HeadEnd):
            self.norm, self.current = self.around
            return [Line(body="}", free=True)]
        lines: list[Line] = []
        if item.reads not in ("", self.current):
            lines.append(Line(body=f"from {item.reads}", free=True))
            self.current = item.reads
        if isinstance(layer, FromLayer):
            return lines
        norm = norm_before(layer, self.norm)
        if norm != self.norm:
            lines.append(Line(body=f"BN: {norm_text(norm, ', ')}", free=True))
            self.norm = norm
        self.current = layer.place.name
        text = layer_text(layer, self.norm, self.sequence)
        return [*lines, Line(f"{self.current}:", text, f"=> {format_shape(item.shape)}")]


def _train_text(training: Training) -> str:
    """The train block, unless it says nothing but defaults."""
    config = training.config
    if config == TrainConfig() and training.decay_all:
        return ""
    sgd = config.optimizer
    decay = "" if training.decay_all else " decay=weights"
    return (
        "\ntrain {\n"
        f"  loss {config.loss}\n"
        f"  optimizer sgd lr={sgd.lr!r} momentum={sgd.momentum!r} weight_decay={sgd.weight_decay!r}{decay}\n"
        f"  batch {config.batch}\n"
        f"  epochs {config.epochs}\n"
        "}\n"
    )
