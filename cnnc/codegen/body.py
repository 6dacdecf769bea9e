"""The values of one fused kernel, computed tile by tile where they are needed.

``value(number, place)`` writes the text that computes a value of the group at a place and gives its variable: a load
for an operand, the rule of its op for a part. A product asks for its operand at the places of its loop, a pool
at those of its window, so that prologues, epilogues and whole kernels inside others come out of one recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnc.codegen.context import Context
from cnnc.codegen.descriptors import View, pixels_of, rows_of
from cnnc.codegen.kernel import Kernel
from cnnc.codegen.launch import Descriptor
from cnnc.codegen.place import Place
from cnnc.codegen.rows import operand
from cnnc.ir.ops import Op, Part
from cnnc.ir.plan import Buffer
from cnnc.ir.types import TensorType
from cnnc.passes.descriptors import describable

# rule(body, part's place in the group, place of the tile, what to add the value to) -> variables by output slot
Rule = Callable[["Body", int, Place, str | None], tuple[str, ...]]


class Body:
    """A kernel in the making and the values it knows, by number and place."""

    def __init__(self, context: Context, kernel: Kernel, rules: Mapping[type[Op], Rule]) -> None:
        self.context = context
        self.kernel = kernel
        self.types: tuple[TensorType, ...] = context.value_types
        self._rules = rules
        self._known: dict[tuple[int, str], str] = {}
        self._raw: dict[tuple[int, str], str] = {}
        self._rows: dict[tuple[int, str], str] = {}
        self._pointers: dict[int, str] = {}
        self._descriptors: dict[tuple[int, tuple[int, ...]], str] = {}  # by operand and block
        self._makers: dict[int, tuple[int, int]] = {}
        self._first: list[int] = []  # number of each part's first output
        self._places = 0
        number = len(context.inputs)
        for index, part in enumerate(context.parts):
            self._first.append(number)
            for slot in range(len(part.op.infer(*(self.types[i] for i in part.operands)))):
                self._makers[number] = index, slot
                number += 1

    # -- the group --------------------------------------------------------------------------------

    def part(self, index: int) -> Part:
        return self.context.parts[index]

    def maker(self, number: int) -> int | None:
        """The part that makes a value; None for an operand of the group."""
        return self._makers[number][0] if number in self._makers else None

    def number(self, index: int, slot: int = 0) -> int:
        """The number of a part's output."""
        return self._first[index] + slot

    def tag(self, index: int) -> str:
        """What tells a part's names from those of others: nothing for the main part."""
        return "" if index == self.context.main else f"_{index}"

    def wanted(self, number: int) -> bool:
        """Whether a value leaves the kernel or another part reads it."""
        stored = zip(self.context.results, self.context.outputs, strict=True)
        left = any(result == number and buffer is not None for result, buffer in stored)
        return left or any(number in part.operands for part in self.context.parts)

    def buffer(self, number: int) -> Buffer:
        """The buffer of an operand of the group."""
        return self.context.inputs[number]

    def leaf(self, number: int) -> int:
        """A batched operand that a value is made from: its dtype is what matrix products take."""
        while (index := self.maker(number)) is not None:
            number = next(i for i in self.part(index).operands if self.types[i].batched)
        return number

    def fresh(self) -> str:
        """A key for a new place."""
        self._places += 1
        return f"_{self._places}"

    # -- operands ---------------------------------------------------------------------------------

    def pointer(self, number: int, name: str) -> str:
        """The parameter that points to an operand of the group, with strides if it is batched; declared once."""
        if number not in self._pointers:
            buffer = self.buffer(number)
            declared = operand(self.kernel, name, buffer) if buffer.batched else self.kernel.pointer(name, buffer)
            self._pointers[number] = declared
        return self._pointers[number]

    def prepare(self, number: int, place: Place, name: str) -> None:
        """Write row offsets of an operand before a loop in which its rows stay the same."""
        if self.maker(number) is None and self.buffer(number).batched:
            self._row(self.pointer(number, name), number, place)

    def raw(self, number: int, place: Place, name: str) -> str:
        """A tile of an operand in its own dtype, zero where the mask is false."""
        if (number, place.key) not in self._raw:
            self._raw[number, place.key] = self._tile(number, place, name)
        return self._raw[number, place.key]

    def loads_block(self, number: int, place: Place) -> bool:
        """Whether a value is an operand that a tensor descriptor loads in blocks at a place.

        Not at the kernel's own tile: its epilogue loads once what it needs, and in the layout of the accumulator.
        """
        if self.maker(number) is not None or place.corner is None or not place.key:
            return False
        buffer = self.buffer(number)
        return buffer.batched and describable(buffer) and (len(buffer.shape) == 3 or not place.corner.pixel)

    def block(self, number: int, name: str, view: View, extents: tuple[str, ...]) -> str:
        """The descriptor that loads blocks of a view of an operand of the group; declared once.

        ``extents`` are the block's, as numbers or as names of the kernel's constants.
        """
        shape = tuple(int(self.kernel.constants.get(extent, extent)) for extent in extents)
        if (number, shape) not in self._descriptors:
            descriptor = Descriptor(self.buffer(number).id, view.shape, view.strides, shape)
            self._descriptors[number, shape] = self.kernel.descriptor(f"{name}_desc", descriptor)
        return self._descriptors[number, shape]

    def _load_block(self, number: int, place: Place, name: str, convert: str) -> str:
        corner, extents = place.corner, (place.height, place.width)
        assert corner is not None
        buffer = self.buffer(number)
        if corner.pixel:
            descriptor = self.block(number, name, pixels_of(buffer), ("1", *extents))
            load = f"{descriptor}.load([{corner.pixel}, {corner.row}, {corner.channel}])"
            load = f"tl.reshape({load}, ({', '.join(extents)}))"
        else:
            descriptor = self.block(number, name, rows_of(buffer), extents)
            load = f"{descriptor}.load([{corner.row}, {corner.channel}])"
        variable = f"{descriptor}_block{place.key}"
        self.kernel.write(f"{variable} = {load}{convert}")
        return variable

    def _tile(self, number: int, place: Place, name: str, convert: str = "") -> str:
        if self.loads_block(number, place):
            return self._load_block(number, place, name, convert)
        pointer = self.pointer(number, name)
        row = self._row(pointer, number, place)
        variable = f"{pointer}_tile{place.key}"
        at = f"{pointer}_at{place.key}"
        self.kernel.write(
            f"{at} = {place.at(pointer, row)}\n{variable} = tl.load({at}, mask={place.mask}, other=0.0){convert}"
        )
        return variable

    def _row(self, pointer: str, number: int, place: Place) -> str:
        if (number, place.key) not in self._rows:
            variable = f"{pointer}_row{place.key}"
            self.kernel.write(f"{variable} = {place.row(pointer)}")
            self._rows[number, place.key] = variable
        return self._rows[number, place.key]

    def _element(self, number: int, name: str) -> str:
        """The type of an operand's elements, as text."""
        found = next((text for (index, _), text in self._descriptors.items() if index == number), None)
        return f"{found}.dtype" if found else f"{self.pointer(number, name)}.dtype.element_ty"

    # -- values -----------------------------------------------------------------------------------

    def factor(self, number: int, place: Place, name: str) -> str:
        """A tile for a matrix product: in the dtype of the image behind it, zero where the mask is false."""
        if self.maker(number) is None:
            return self.raw(number, place, name)
        value = self.value(number, place, name)
        variable = f"factor{place.key}"
        kind = self._element(self.leaf(number), name)
        self.kernel.write(f"{variable} = tl.where({place.mask}, {value}, 0.0).to({kind})")
        return variable

    def value(self, number: int, place: Place, name: str = "x") -> str:
        """A value in float32; ``name`` is what its pointer is called if it is an operand of the group."""
        if (number, place.key) not in self._known:
            index = self.maker(number)
            if index is None:
                self._known[number, place.key] = self._load(number, place, name)
            else:
                self._compute(index, place, None)
        return self._known[number, place.key]

    def masked(self, number: int, place: Place, name: str = "x") -> str:
        """A value in float32, zero where the mask is false: what is computed there from zeros need not be."""
        value = self.value(number, place, name)
        return value if self.maker(number) is None else f"tl.where({place.mask}, {value}, 0.0)"

    def added(self, number: int, place: Place, onto: str) -> str:
        """``onto`` plus a value: a product, or a bias behind one, goes on in ``onto``'s accumulator."""
        index = self.maker(number)
        if index is None or (number, place.key) in self._known:
            return f"{onto} + {self.value(number, place, 'residual')}"
        self._compute(index, place, onto)
        return self._known.pop((number, place.key))

    def give(self, index: int, place: Place, variables: tuple[str, ...]) -> None:
        """Say where a part's values are, and store those that leave the kernel from here."""
        for slot, variable in enumerate(variables):
            number = self.number(index, slot)
            self._known[number, place.key] = variable
            if place.stored_if is not None and number in self.context.results:
                buffer = self.context.outputs[self.context.results.index(number)]
                if buffer is not None:
                    self.store(variable, buffer, place, f"{place.mask} & ({place.stored_if})")

    def _compute(self, index: int, place: Place, onto: str | None) -> None:
        self.give(index, place, self._rules[type(self.part(index).op)](self, index, place, onto))

    def _load(self, number: int, place: Place, name: str) -> str:
        buffer = self.buffer(number)
        if buffer.batched:
            return self._tile(number, place, name, ".to(tl.float32)")
        pointer = self.pointer(number, name)
        if len(buffer.shape) == 1:
            variable = f"{pointer}_vector{place.key}"
            load = f"tl.load({pointer} + {place.channel}, mask={place.channel_live}, other=0.0).to(tl.float32)"
            self.kernel.write(f"{variable} = {load}[None, :]")
            return variable
        variable = f"{pointer}_tile{place.key}"
        position = f"{pointer}_position{place.key}"
        self.kernel.write(
            f"{position} = {place.pixel(place.rows.width)} * {place.channels} + {place.channel}[None, :]\n"
            f"{variable} = tl.load({pointer} + {position}, mask={place.mask}, other=0.0).to(tl.float32)"
        )
        return variable

    def store(self, variable: str, buffer: Buffer, place: Place, mask: str, channel: str | None = None) -> None:
        """Write a tile to a buffer, rounded to its dtype."""
        pointer = operand(self.kernel, "out", buffer)
        self.kernel.write(
            f"{pointer}_row = {place.row(pointer)}\n"
            f"{pointer}_at = {place.at(pointer, f'{pointer}_row', channel)}\n"
            f"tl.store({pointer}_at, {variable}.to({pointer}.dtype.element_ty), mask={mask})"
        )
