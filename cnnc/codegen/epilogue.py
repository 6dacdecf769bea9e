"""The end of a kernel: what follows on the tile that it holds, and the stores of what leaves it."""

from __future__ import annotations

from cnnc.codegen.body import Body
from cnnc.codegen.context import Context
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.naming import label, words
from cnnc.codegen.place import Place
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules import RULES
from cnnc.ir import ops

LONGEST = 10  # words in a kernel's name


def chain_name(context: Context, first: str) -> str:
    """``lrn_bias_relu``: the anchor's name and what else its kernel computes."""
    return short_name([first, *(label(part.op) for part in context.parts if part is not context.parts[context.main])])


def short_name(found: list[str]) -> str:
    """Words as a name; of too many, the first ones and how many more there are."""
    more = len(found) - LONGEST
    return "_".join(found[:LONGEST]) + (f"_and_{more}_more" if more > 0 else "")


def chain_text(context: Context) -> str:
    """What follows the anchor, for a kernel's docstring."""
    following = words(context.parts[context.main + 1 :])
    return f" Then {following}, on the tile in registers." if following else ""


def finish(context: Context, kernel: Kernel, rows: Rows, computed: list[str], channels: str = "C") -> None:
    """Compute the parts that follow an anchor whose results are in ``computed``, and store what leaves the kernel.

    ``channels`` names the number of channels in the text.
    """
    body = Body(context, kernel, RULES)
    place = Place("", rows, channels=channels)
    kernel.write("tile_live = live[:, None] & channel_live[None, :]")
    body.give(context.main, place, tuple(computed))
    for slot, number in enumerate(context.results):
        store_result(body, place, slot, number)


def store_result(body: Body, place: Place, slot: int, number: int) -> None:
    """Compute a value of the tile and store it as a result of the step, if anyone wants it."""
    buffer = body.context.outputs[slot]
    if buffer is None:
        return
    index = body.maker(number)
    if index is not None and isinstance(body.part(index).op, ops.Split):
        _store_part(body, place, slot, number)
    else:
        body.store(body.value(number, place), buffer, place, place.mask)


def _store_part(body: Body, place: Place, slot: int, number: int) -> None:
    """A slice of the tile's channels, which has a buffer of its own."""
    index = body.maker(number)
    assert index is not None
    op = body.part(index).op
    assert isinstance(op, ops.Split)
    which = number - body.number(index)
    start = sum(op.counts[:which])
    first, end = f"FIRST_{slot}", f"END_{slot}"
    body.kernel.integers(**{first: start, end: start + op.counts[which]})
    buffer = body.context.outputs[slot]
    assert buffer is not None
    value = body.value(body.part(index).operands[0], place)
    mask = f"{place.mask} & (({place.channel} >= {first}) & ({place.channel} < {end}))[None, :]"
    body.store(value, buffer, place, mask, f"{place.channel} - {first}")
