"""A folded picture as DOT text: Graphviz's language, and what ``-o net.dot`` writes."""

from __future__ import annotations

import html
from collections.abc import Iterator

from cnnc.report.picture.boxes import INPUT, OUTPUT, Box
from cnnc.report.picture.fold import Group, Leaf, Picture
from cnnc.report.picture.words import REARRANGED

# Fill and outline of each kind: light enough for black words, distinct in grey and for most colour-blind readers.
COLOURS: dict[str, tuple[str, str]] = {
    INPUT: ("#ffffff", "#555555"),
    "convolution": ("#cfe2f7", "#2f6eb0"),
    "transposed convolution": ("#dcd3f2", "#6a4fb0"),
    "fully connected": ("#fbdcc0", "#c2702a"),
    "pool": ("#cdebd0", "#3b8a4a"),
    "normalisation": ("#fdf1b8", "#a98b14"),
    "merge": ("#f8cfd6", "#b83a52"),
    "activation": ("#e9e9e9", "#707070"),
    REARRANGED: ("#d3eeee", "#2f8585"),
    OUTPUT: ("#ffffff", "#555555"),
}
GREY = "#666666"
REPEAT = "#b02020"
OBVIOUS = ("merge", "activation")  # boxes whose words say all; their automatic names say the same again

HEAD = """\
  graph [rankdir=TB, ranksep=0.32, nodesep=0.3, fontname="Helvetica", fontsize=14, labelloc=t, newrank=true];
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, margin="0.14,0.06", height=0.3];
  edge [fontname="Helvetica", fontsize=9, fontcolor="#666666", color="#555555", arrowsize=0.6];"""


def dot_text(picture: Picture, title: str) -> str:
    """The picture in DOT; the same for the same network."""
    lines = ["digraph network {", HEAD, f"  label={_quote(title)};"]
    lines += _items(picture, picture.items, "  ")
    lines += _edges(picture)
    lines += _legend(picture)
    return "\n".join([*lines, "}"]) + "\n"


def _items(picture: Picture, items: tuple[Leaf | Group, ...], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Leaf):
            yield f"{indent}{_node(picture, item)}"
        elif item.count == 1 and not _is_framed(item):
            yield from _items(picture, item.items, indent)
        else:
            yield f"{indent}subgraph cluster_{_first(item)}_{len(indent)} {{"
            yield f"{indent}  {_frame(item)}"
            yield from _items(picture, item.items, indent + "  ")
            yield f"{indent}}}"


def _is_framed(group: Group) -> bool:
    """A block of several boxes has a frame; one of blocks alone needs none round theirs."""
    return bool(group.label) and sum(isinstance(item, Leaf) for item in group.items) > 1


def _first(item: Leaf | Group) -> int:
    return item.box if isinstance(item, Leaf) else _first(item.items[0])


def _frame(group: Group) -> str:
    style = 'style="rounded,dashed", color="#999999", labeljust=l, fontsize=11, fontcolor="#444444", margin=10'
    name = html.escape(group.label)
    if group.count == 1:
        return f"graph [label=<{name}>, {style}];"
    grown = f", up to {group.grows_to}" if group.grows_to else ""
    return f"graph [label=<{name}{' ' if name else ''}{_times(group.count)}{grown}>, {style}, penwidth=1.5];"


def _times(count: int) -> str:
    return f'<B><FONT COLOR="{REPEAT}" POINT-SIZE="14">&times;{count}</FONT></B>'


def _node(picture: Picture, leaf: Leaf) -> str:
    box = picture.boxes[leaf.box]
    fill, line = COLOURS[box.kind]
    rows = [_row(word) for word in box.lines]
    name = _name(box)
    if box.kind in (INPUT, OUTPUT):
        rows = [f"{html.escape(box.name)}" + (f" {box.shape}" if box.kind == INPUT else "")]
    elif name and leaf.count > 1:
        rows.insert(0, _small(f"{name} to {picture.boxes[leaf.last].name.rpartition('.')[2]}"))
    elif name:
        rows.insert(0, _small(name))
    if leaf.count > 1:
        rows.append(_times(leaf.count))
    style = ', style="filled", shape=ellipse' if box.kind in (INPUT, OUTPUT) else ""
    return f'n{leaf.box} [label=<{"<BR/>".join(rows)}>, fillcolor="{fill}", color="{line}"{style}];'


def _row(words: str) -> str:
    return html.escape(words)


def _small(words: str) -> str:
    return f'<FONT POINT-SIZE="9" COLOR="{GREY}">{html.escape(words)}</FONT>'


def _name(box: Box) -> str:
    """The layer's own name; none where it is a word and a counter, and the box says that word already."""
    name = box.name.rpartition(".")[2]
    words = {word for line in box.lines for word in line.split(", ")}
    return "" if box.kind in OBVIOUS and name.rstrip("0123456789") in words else name


def _edges(picture: Picture) -> Iterator[str]:
    """Each value's shape stands on the first edge that carries it."""
    labelled: set[int] = set()
    for target, box in enumerate(picture.boxes):
        if target in picture.stands_for:
            continue
        # A folded block's value is the last one's, drawn as leaving the first.
        for value in dict.fromkeys(box.inputs):
            label = "" if value in labelled or value == 0 else f' [label=" {picture.boxes[value].shape}"]'
            labelled.add(value)
            yield f"  n{picture.stands_for.get(value, value)} -> n{target}{label};"


def _legend(picture: Picture) -> Iterator[str]:
    present = {box.kind for box in picture.boxes}
    kinds = [kind for kind in COLOURS if kind in present and kind not in (INPUT, OUTPUT)]
    rows = "".join(
        f'<TR><TD BGCOLOR="{COLOURS[kind][0]}" WIDTH="18"> </TD><TD ALIGN="LEFT">{kind}</TD></TR>' for kind in kinds
    )
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{rows}</TABLE>'
    if kinds:
        yield f'  legend [shape=plain, style="", fontsize=9, label=<{table}>];'
        yield "  { rank=same; n0; legend; }"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
