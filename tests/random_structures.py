"""Random structure around layers: merges of arms and of labels, blocks, repetitions, heads, default lines."""

from __future__ import annotations

from tests.random_layers import Draw, Shape, keeping, layer

MERGES = ("add", "add", "concat", "mul")


def structure(draw: Draw, shape: Shape, number: int) -> str:
    """A statement of several layers that may fit; ``number`` makes its names its own."""
    makers = [_residual, _merge, _merge, _gather, _again, _block, _stride_block, _repeat, _counted, _times, _default]
    return draw.rng.choice(makers)(draw, shape, number)


def head(draw: Draw, shape: Shape, number: int, classes: int) -> str:
    """A classifier that trains alone."""
    body = "; ".join([*(keeping(draw, shape) for _ in range(draw.whole(0, 1, 2))), f"fc {classes}"])
    return f"head h{number} loss={draw.of('0.3', '1', '0.25')} {{ {body}{draw.of('', ' softmax')} }}"


def _arm(draw: Draw, shape: Shape, depth: int = 0) -> str:
    statements = [keeping(draw, shape) for _ in range(draw.whole(1, 1, 2, 3))]
    if depth < 2 and draw.chance(0.2):
        statements.append(_arms(draw, shape, depth + 1))
    return "; ".join(statements)


def _arms(draw: Draw, shape: Shape, depth: int = 0) -> str:
    kind = draw.of(*MERGES)
    simple = draw.of("identity", "identity", "shortcut A", "shortcut B", "shortcut C")
    arms = [_arm(draw, shape, depth) for _ in range(draw.whole(1, 1, 2, 3))] + [simple] * draw.chance(0.8)
    arms += [_arm(draw, shape, depth)] * (len(arms) == 1)
    draw.rng.shuffle(arms)
    scaled = [f"{draw.of('0.2 * ', '-1 * ', '2 * ') * (kind != 'mul' and draw.chance(0.2))}{arm}" for arm in arms]
    return f"{kind} {{ {' '.join(f'| {arm}' for arm in scaled)} }}{_follows(draw)}"


def _follows(draw: Draw) -> str:
    return f" {draw.activation()}" if draw.chance(0.4) else ""


def _merge(draw: Draw, shape: Shape, number: int) -> str:
    return _arms(draw, shape)


def _residual(draw: Draw, shape: Shape, number: int) -> str:
    """Arms with a stride and another width: shortcuts that project or pad."""
    width = shape[-1] + draw.whole(0, 0, 1, 3)
    stride = draw.axes(shape, (1, 2, 3))
    first = {3: f"conv {width} 3x3/{stride} same", 2: f"conv {width} f=3 s={stride} same", 1: f"fc {width}"}[len(shape)]
    rest = "".join(f"; {keeping(draw, (*shape[:-1], width))}" for _ in range(draw.whole(0, 1, 2)))
    other = draw.of("shortcut A", "shortcut B", "shortcut C", first + " relu")
    factor = draw.of("", "", "0.3 * ")
    return f"{draw.of('add', 'concat')} {{ | {factor}{first}{rest} | {other} }}{_follows(draw)}"


def _gather(draw: Draw, shape: Shape, number: int) -> str:
    """A merge of what has a label, the same one perhaps twice."""
    names = [*draw.shapes, "input"]
    chosen = [draw.rng.choice(names) for _ in range(draw.whole(1, 2, 2, 3))]
    kind = draw.of(*MERGES)
    terms = [f"{draw.of('0.5 * ', '-1 * ') if kind != 'mul' and draw.chance(0.1) else ''}{name}" for name in chosen]
    return f"{kind}({', '.join(terms)}){_follows(draw)}"


def _again(draw: Draw, shape: Shape, number: int) -> str:
    name = draw.rng.choice([*draw.shapes, "input"])
    return f"from {name}; {layer(draw, draw.shapes.get(name, shape))}"


def _block(draw: Draw, shape: Shape, number: int) -> str:
    size = {3: "3x3 same", 2: "f=3 same", 1: ""}[len(shape)]
    product = "fc" if len(shape) == 1 else "conv"
    body = f"{product} w {size} bn act; {keeping(draw, shape)}"
    if draw.chance(0.5):
        body = f"add {{ | {product} 2*w {size} act; {product} w {size} | shortcut B }} act"
    call = f"b{number}({shape[-1]}, {draw.activation()})"
    if draw.chance(0.6):
        call += f" x{draw.whole(1, 2, 3)}"
        call += f" {draw.of('first', 'last')}(act={draw.activation()})" if draw.chance(0.5) else ""
    return f"block b{number}(w, act=relu) {{\n  {body}\n}}\n{call}"


def _stride_block(draw: Draw, shape: Shape, number: int) -> str:
    if len(shape) == 1:
        return _block(draw, shape, number)
    first, second = ("3x3/s same", "3x3 same") if len(shape) == 3 else ("f=3 s=s same", "f=3 same")
    arms = f"| conv w {first} bn relu; conv w {second} | shortcut {draw.of('A', 'B', 'C')}"
    width = shape[-1] + draw.whole(0, 2)
    call = f"b{number}({width}) x{draw.whole(1, 2, 3)} {draw.of('first', 'last')}(s={draw.whole(1, 2, 3)})"
    return f"block b{number}(w, s=1) {{\n  add {{ {arms} }} relu\n}}\n{call}"


def _repeat(draw: Draw, shape: Shape, number: int) -> str:
    return f"repeat {draw.whole(1, 2, 3)} {{ {_arm(draw, shape)} }}"


def _counted(draw: Draw, shape: Shape, number: int) -> str:
    """WaveNet's: gated arms whose skips are gathered."""
    if len(shape) == 1:
        body = f"fc {shape[-1]}+i tanh; skip: fc 3"
        return f"l{number}: repeat i=0..{draw.whole(0, 1, 2)} {{ {body} }}; add(l{number}.*.skip)"
    window = "3x3 same" if len(shape) == 3 else "f=2 causal"
    gate = f"mul {{ | conv 3 {window} dilation=2^i tanh | conv 3 {window} dilation=2^i sigmoid }}"
    one = "1x1" if len(shape) == 3 else "f=1"
    body = f"add {{ | identity | gate: {gate}; skip: conv 4 {one}; from gate; conv {shape[-1]} {one} }}"
    end = f"; {draw.of('add', 'concat')}(l{number}.*.skip){_follows(draw)}" if draw.chance(0.7) else ""
    return f"l{number}: repeat i=0..{draw.whole(0, 1, 2)} {{ {body} }}{end}"


def _times(draw: Draw, shape: Shape, number: int) -> str:
    return f"{keeping(draw, shape)} x{draw.whole(1, 2, 3)}"


def _default(draw: Draw, shape: Shape, number: int) -> str:
    act = draw.activation()
    lines = [f"CONV: same, nobias, bn, {act}", f"CONV: {act}", "CONV: same=tf nobias", f"FC: bn, {act}", "FC: nobias"]
    lines += [f"DWCONV: same, {act}", f"SEPCONV: nobias bn {act}", f"DECONV: nobias, {act}", "DROPOUT: 0.25"]
    lines += ["LRN: n=3, alpha=0.2, beta=0.5, k=1", "BN: momentum=0.4" + (" eps=0.1" if draw.gentle else " nogamma")]
    pool = "POOL: 2x2, ceil" if len(shape) == 3 else "POOL: f=2, ceil"
    return f"{draw.of(*lines, pool)}; {layer(draw, shape)}"
