"""Random small programs over every layer and option of the language, the same for the same seed."""

from __future__ import annotations

import random
import re

from cnnc.errors import ProgramError
from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.cost import macs
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.source import Source

MAX_WORK = 400_000  # multiply-adds and values of one image, so that a batch of 65 stays quick
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 24)
ACTIVATIONS = ("relu", "tanh", "sigmoid")
TRAIN = "train { optimizer sgd lr=0.05 momentum=0.9 weight_decay=0.01 decay=%s }"


def random_model(seed: int, *, gentle: bool = False) -> Model:
    """A valid program of one to eight statements and what it means; ``source.text`` is the text.

    In a ``gentle`` one batch norm does not blow up channels that hardly vary, so that float32 can be judged.
    """
    rng = random.Random(seed)
    while True:
        model = _grow(rng, "0.1" if gentle else None)
        if model is not None:
            return model


def _grow(rng: random.Random, eps: str | None) -> Model | None:
    lines = [TRAIN % rng.choice(("all", "weights")), _input(rng)]
    lines += [f"BN: eps={eps}"] if eps else []
    model: Model | None = None
    shape = tuple(int(extent) for extent in lines[1].split()[1].split("x"))
    for _ in range(rng.randint(1, 8)):
        line = rng.choices(*zip(*_choices(len(shape) == 3), strict=True))[0](rng, shape)
        line = re.sub(r"eps=\S+", "", line) if eps else line
        # What does not fit (kernel, groups, padding) is not said: the frontend is the judge of that.
        try:
            grown = load(Source("<random>", "\n".join([*lines, line])))
        except ProgramError:
            continue
        if _work(grown.graph) <= MAX_WORK:
            lines.append(line)
            model = grown
            shape = grown.graph.type_of(grown.graph.outputs["output"]).shape
    return model


def _choices(image: bool):
    if image:
        return [(_conv, 7), (_pool, 4), (_norm, 2), (_dropout, 1), (_bare, 2), (_head, 1), (_fc, 2)]
    return [(_fc, 5), (_norm, 1), (_dropout, 1), (_bare, 2)]


def _work(graph: Graph) -> int:
    total = 0
    for node in graph.walk():
        operands = tuple(graph.type_of(value) for value in node.operands)
        total += macs(node.op, operands, node.types)
        total += 0 if isinstance(node.op, ops.Parameter) else node.types[0].count
    return total


def _input(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return f"input {rng.choice((1, 3, 10, 17))}"
    if rng.random() < 0.1:
        return f"input 1x1x{rng.choice(WIDTHS)}"
    return f"input {rng.randint(1, 12)}x{rng.randint(1, 12)}x{rng.choice((1, 1, 2, 3, 3, 4, 5, 7, 8, 16))}"


def _pair(rng: random.Random, choices: tuple[int, ...]) -> str:
    if rng.random() < 0.5:
        return str(rng.choice(choices))
    return f"({rng.choice(choices)},{rng.choice(choices)})"


def _size(rng: random.Random) -> str:
    kernel = rng.choice((1, 2, 3, 3, 5))
    text = f"{kernel}x{kernel}" if rng.random() < 0.5 else f"{rng.choice((1, 2, 3, 4))}x{rng.choice((1, 2, 3, 5))}"
    return text + (f"/{_pair(rng, (1, 2, 3, 4))}" if rng.random() < 0.45 else "")


def _padding(rng: random.Random) -> str:
    kind = rng.randrange(7)
    if kind < 4:
        return ("", " valid", " same", " same=tf")[kind]
    if kind == 4:
        return f" pad={rng.choice((0, 1, 2))}"
    extents = ",".join(str(rng.choice((0, 1, 2, 3))) for _ in range(2 if kind == 5 else 4))
    return f" pad=({extents})"


def _conv(rng: random.Random, shape: tuple[int, ...]) -> str:
    channels = shape[-1]
    groups, width = 1, rng.choice(WIDTHS)
    if rng.random() < 0.35:
        groups = rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
        groups = channels if rng.random() < 0.4 else groups
        width = groups * rng.choice((1, 1, 2, 3))
    text = f"conv {width} {_size(rng)}{_padding(rng)}"
    if rng.random() < 0.25:
        text += f" dilation={_pair(rng, (1, 2, 3))}"
    if groups > 1:
        text += f" groups={groups}"
    return text + _epilogue(rng)


def _epilogue(rng: random.Random) -> str:
    text = " nobias" if rng.random() < 0.3 else ""
    text += " bn" if rng.random() < 0.3 else ""
    return text + (f" {rng.choice((*ACTIVATIONS, 'relu', 'softmax'))}" if rng.random() < 0.6 else "")


def _pool(rng: random.Random, shape: tuple[int, ...]) -> str:
    kind = rng.choice(("maxpool", "avgpool"))
    text = f"{kind} {_size(rng)}{_padding(rng)}"
    text += " ceil" if rng.random() < 0.4 else ""
    return text + (" countpad" if kind == "avgpool" and rng.random() < 0.4 else "")


def _fc(rng: random.Random, shape: tuple[int, ...]) -> str:
    return f"fc {rng.choice(WIDTHS)}{_epilogue(rng)}"


def _norm(rng: random.Random, shape: tuple[int, ...]) -> str:
    return "bn" + (f" eps={rng.choice(('1e-3', '0.1'))} momentum={rng.choice(('0.3', '1', '0'))}" * rng.randint(0, 1))


def _dropout(rng: random.Random, shape: tuple[int, ...]) -> str:
    return f"dropout {rng.choice(('0', '0.1', '0.5', '0.9'))}"


def _bare(rng: random.Random, shape: tuple[int, ...]) -> str:
    return rng.choice((*ACTIVATIONS, "softmax"))


def _head(rng: random.Random, shape: tuple[int, ...]) -> str:
    return rng.choice(("globalavgpool", "flatten"))
