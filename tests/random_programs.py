"""Random small programs over the whole language, the same for the same seed."""

from __future__ import annotations

import random

from cnnc.errors import ProgramError
from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.cost import macs
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.source import Source
from tests.random_layers import WIDTHS, Draw, layer
from tests.random_structures import head, structure

MAX_WORK = 400_000  # multiply-adds and values of one image, so that a batch of 65 stays quick
TRAIN = "train { optimizer sgd lr=0.05 momentum=0.9 weight_decay=0.01 decay=%s }"


def random_model(seed: int, *, gentle: bool = False, work: int = MAX_WORK) -> Model:
    """A valid program of one to eight steps and what it means; ``source.text`` is the text.

    A ``gentle`` one can be judged in float32: no jumps, and batch norm does not blow up channels that hardly vary.
    """
    rng = random.Random(seed)
    while True:
        model = _Growth(Draw(rng, gentle), work).model
        if model is not None:
            return model


class _Growth:
    """A text that grows by what the frontend takes; ``model`` is what it means, None if nothing fitted."""

    def __init__(self, draw: Draw, work: int) -> None:
        self.draw, self.work = draw, work
        self.model: Model | None = None
        self.lines = [TRAIN % draw.of("all", "weights"), _input(draw)]
        self.lines += ["BN: eps=0.1"] if draw.gentle else []
        self.shape = tuple(int(extent) for extent in self.lines[1].split()[1].split("x"))
        classes = draw.whole(2, 3, 10)
        heads = 0
        if draw.chance(0.04):
            self._try(_slide(draw))
        for number in range(draw.rng.randint(1, 8)):
            if self.model is not None and draw.chance(0.06):
                heads += self._try(head(draw, self.shape, number, classes))
            elif draw.chance(0.3):
                self._try(structure(draw, self.shape, number))
            else:
                self._labelled(layer(draw, self.shape), number)
        if heads and not self._try(f"fc {classes}{draw.of('', ' softmax')}"):
            self.model = None

    def _labelled(self, line: str, number: int) -> None:
        if not self.draw.chance(0.5):
            self._try(line)
        elif self._try(f"v{number}: {line}"):
            self.draw.shapes[f"v{number}"] = self.shape

    def _try(self, text: str) -> bool:
        """Whether the text may go on like this: kernel, groups and shapes fit, and there is not too much work."""
        try:
            grown = load(Source("<random>", "\n".join([*self.lines, text])))
        except ProgramError:
            return False
        if _work(grown.graph) > self.work:
            return False
        self.lines.append(text)
        self.model, self.shape = grown, grown.output_shape
        return True


def _work(graph: Graph) -> int:
    total = 0
    for node in graph.walk():
        operands = tuple(graph.type_of(value) for value in node.operands)
        total += macs(node.op, operands, node.types)
        total += 0 if isinstance(node.op, ops.Parameter) else node.types[0].count
    return total


def _input(draw: Draw) -> str:
    kind = draw.rng.random()
    if kind < 0.08:
        return f"input {draw.whole(1, 3, 10, 17)}"
    if kind < 0.16:
        return f"input 1x1x{draw.width()}"
    if kind < 0.35:
        return f"input {draw.rng.randint(1, 24)}x{draw.rng.choice(WIDTHS)}"
    size = f"{draw.rng.randint(1, 12)}x{draw.rng.randint(1, 12)}"
    return f"input {size}x{draw.whole(1, 1, 2, 3, 3, 4, 5, 7, 8, 16)}"


def _slide(draw: Draw) -> str:
    """The way of slides: one letter a layer."""
    words = [draw.of("CP", "CCP", "CNA", "CLP", "C1CP", "CC3/2D", "CG") for _ in range(draw.whole(1, 2))]
    widths = [str(draw.whole(2, 3, 8)) for _ in range(len(words) + 1)]
    conv = f"CONV: f=3, s=1, same{draw.of('', ' bn', ' nobias', ' tanh')}"
    order = f"Order: {' '.join(words)} {draw.of('FS', 'FFS', 'FF')}"
    return f"{conv}\nPOOL: f=2, s=2\n{order}\nNf: {' '.join(widths)}\nclasses: 5"
