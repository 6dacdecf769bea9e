"""The accumulator of a matrix product over a tile, upright or turned.

Where the left factor is computed element by element as it is read, the product is turned: ``(b^T a^T)^T``. Hopper's
matrix units would take a first factor from the registers that it was computed in, and ptxas then lets no product run
while the next factor is made; a second factor goes through shared memory, like those that are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnc.codegen.body import Body
from cnnc.codegen.place import Place
from cnnc.codegen.template import instantiate
from cnnc.passes.prologues import ELEMENTWISE

# By whether the product is turned, and whether ``b`` has the columns down and the summed channels across.
STEPS: dict[tuple[bool, bool], str] = {
    (False, False): 'acc = tl.dot(a, b, acc, input_precision="ieee")',
    (False, True): 'acc = tl.dot(a, tl.trans(b), acc, input_precision="ieee")',
    (True, False): 'turned = tl.dot(tl.trans(b), tl.trans(a), turned, input_precision="ieee")',
    (True, True): 'turned = tl.dot(b, tl.trans(a), turned, input_precision="ieee")',
}


@dataclass(frozen=True)
class Product:
    """What a part of the body multiplies at a place: ``begin`` before its loop, ``step`` in it, ``end`` behind."""

    body: Body
    left: int  # the number of the left factor
    place: Place
    tag: str
    onto: str | None

    @property
    def is_turned(self) -> bool:
        """Whether the left factor is made element by element of what is loaded."""
        number = self.left
        if self.body.maker(number) is None:
            return False
        border = [number]
        while border:
            index = self.body.maker(border.pop())
            if index is None:
                continue
            part = self.body.part(index)
            if not isinstance(part.op, ELEMENTWISE):
                return False
            border.extend(part.operands)
        return True

    def begin(self) -> None:
        """Zero the accumulator, or go on in what the product is added to."""
        place = self.place
        if self.is_turned:
            zeros = f"tl.full(({place.width}, {place.height}), 0.0, tl.float32)"
            self.body.kernel.write(f"turned{self.tag} = {zeros}")
        else:
            self.body.kernel.write(f"acc{self.tag} = {self.onto or place.zeros}")

    def step(self, names: Mapping[str, str], factor: str, *, transposed: bool = False) -> None:
        """Add the product of ``factor`` and ``b``, which stands transposed or not."""
        text = STEPS[self.is_turned, transposed]
        self.body.kernel.write(instantiate(text, self.tag, {**names, "a": factor}))

    def end(self) -> tuple[str]:
        """The variable of the sum, as a rule gives it."""
        if self.is_turned:
            before = f"{self.onto} + " if self.onto else ""
            self.body.kernel.write(f"acc{self.tag} = {before}tl.trans(turned{self.tag})")
        return (f"acc{self.tag}",)
