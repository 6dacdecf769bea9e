"""Buffers for the values of a graph: which space each lives in, its layout, and who shares memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.params import Arena, ParamSpec
from cnnc.ir.plan import ALIGN_BYTES, Buffer, Space
from cnnc.ir.size import Offset, Size
from cnnc.ir.types import ITEM_BYTES, Element, resolve
from cnnc.ir.window import Pad
from cnnc.passes.layout import NO_HALO, axes_of, halos, widest
from cnnc.passes.places import Places

ARENAS = (Space.PARAMS, Space.SHADOW, Space.GRADS, Space.STATE)  # where every plan finds the same arrays


@dataclass(frozen=True)
class Arenas:
    """The persistent arenas of a model, the same for all its variants and targets."""

    params: Arena
    state: Arena


def aligned(size: Size) -> Size:
    """The size with each term rounded up, so that it is a multiple of ALIGN_BYTES at every N."""
    a, b, c = (-(-term // ALIGN_BYTES) * ALIGN_BYTES for term in (size.a, size.b, size.c))
    return Size(a, b, size.t, c)


class BufferTable:
    """One buffer per value that is read or given out; views share the place of what they view."""

    def __init__(self, graph: Graph, arenas: Arenas, target: str, dtype: str) -> None:
        self.graph = graph
        self.arenas = arenas
        self.target = target
        self.dtype = dtype
        self.users = graph.users()
        self.outputs = {value: name for name, value in graph.outputs.items()}
        self.constant = constants(graph)
        self.places = Places(graph, arenas.params)
        # Where several outputs lie in one piece of memory, it begins with the first.
        whole = [(place.root, value) for value in self.outputs if not (place := self.places.of(value)).first]
        self._output_of = dict(whole)
        self.buffers: list[Buffer] = []
        self.ids: dict[Value, int] = {}
        self._halos = self._halos_by_root()
        for node in graph.walk():
            for index in range(len(node.types)):
                value = node.value(index)
                if value in self.users or value in self.outputs or isinstance(node.op, ops.Input):
                    self._add(value)
        self._values = len(self.buffers)

    def root(self, index: int) -> int:
        """The buffer whose memory a buffer lies in: most often itself."""
        within = self.buffers[index].within
        return index if within is None else within

    def written(self, node: Node) -> tuple[int | None, ...]:
        """The buffers that a node's step writes, by output slot."""
        values = map(node.value, range(len(node.types)))
        return tuple(self.ids.get(value) if self.places.is_computed(value) else None for value in values)

    def workspace(self, name: str, size: Size) -> int:
        """A buffer for partial results of one step, of the batch or of each image; returns its id."""
        nbytes = aligned(size)
        dtype = resolve(Element.ACC, self.dtype)
        batched, axes = (True, "NC") if size.a else (False, "0")
        shape = ((nbytes.a or nbytes.c) // ITEM_BYTES[dtype],)
        self.buffers.append(Buffer(len(self.buffers), name, Space.WORK, dtype, shape, batched, axes, Size(), nbytes))
        return len(self.buffers) - 1

    def counters(self, name: str, count: int) -> int:
        """A buffer of counters for one step; those of all steps are the same memory."""
        size = aligned(Size(c=4 * count))
        place = len(self.buffers), name, Space.COUNTERS, "int32", (count,), False, "0", Size(), size
        self.buffers.append(Buffer(*place))
        return len(self.buffers) - 1

    def drop_workspaces(self) -> None:
        """Go back to the buffers of the graph's values."""
        del self.buffers[self._values :]

    def place(self, offsets: dict[int, Offset]) -> tuple[Buffer, ...]:
        """The buffers with offsets of their roots in WORK or CONST filled in."""
        result = list(self.buffers)
        for index, offset in offsets.items():
            result[index] = replace(result[index], offset=offset)
        for index, buffer in enumerate(result):
            if buffer.within is not None:
                result[index] = replace(buffer, offset=result[buffer.within].offset)
        return tuple(result)

    # -- one buffer -------------------------------------------------------------------------------

    def _add(self, value: Value) -> None:
        place = self.places.of(value)
        if value in self.ids:
            return
        within = None
        if place.root != value:
            self._add(place.root)
            within = self.ids[place.root]
        kind = self.graph.type_of(value)
        space, name = self._space(place.root, value)
        # Fixed parameters have no copy in the compute dtype: kernels round what they load.
        dtype = resolve(Element.ACC if space is Space.STATE else kind.element, self.dtype)
        halo = NO_HALO
        if space in (Space.WORK, Space.INPUT) and len(kind.shape) == 3:
            halo = self._halos.get(place.root, NO_HALO)
        channels = self.graph.type_of(place.root).shape[-1] if kind.batched and kind.shape else 0
        axes = axes_of(kind, space, self.target)
        given = len(self.buffers), name, space, dtype, kind.shape, kind.batched, axes, Size(), Size()
        buffer = Buffer(*given, halo, channels, place.first, within, view=value != self._known(place.root))
        size = buffer.elements.scaled(buffer.item_bytes)
        if space not in ARENAS:
            size = aligned(size)
        if place.root != value and not kind.batched:
            size = max(size, self.buffers[self.ids[place.root]].size, key=lambda one: one.c)
        self.buffers.append(replace(buffer, size=size, offset=self._fixed_offset(space, name, dtype)))
        self.ids[value] = buffer.id

    def _space(self, root: Value, value: Value) -> tuple[Space, str]:
        output = self.outputs.get(value, self.outputs.get(self._known(root)))
        if output is not None:
            kind, _, name = output.partition(":")
            return {"grad": Space.GRADS, "state": Space.STATE}.get(kind, Space.OUTPUT), name or output
        op = self.graph[root.node].op
        if isinstance(op, ops.Input):
            return Space.INPUT, root.node
        if isinstance(op, ops.Parameter):
            self._check_stored(op.spec)
            return self._parameter_space(op.spec, op.element), op.spec.name
        return (Space.CONST if root.node in self.constant else Space.WORK), str(value).lstrip("%")

    def _known(self, root: Value) -> Value:
        """The value that a piece of memory is known by: the output that lies there, else its root."""
        return self._output_of.get(root, root)

    def _check_stored(self, spec: ParamSpec) -> None:
        """All plans read one arena: a leaf that wants another order of elements is a bug in a pass."""
        stored = (self.arenas.params if spec.trainable else self.arenas.state).spec(spec.name)
        if (stored.view, stored.perm) != (spec.view, spec.perm):
            raise AssertionError(f"{spec} is stored as {stored}")

    def _parameter_space(self, spec: ParamSpec, element: Element) -> Space:
        if not spec.trainable:
            return Space.STATE
        same = resolve(element, self.dtype) == resolve(Element.ACC, self.dtype)
        return Space.PARAMS if same else Space.SHADOW

    def _fixed_offset(self, space: Space, name: str, dtype: str) -> Size:
        """Bytes from the start of a persistent arena; other spaces are packed later or start at 0."""
        if space in (Space.PARAMS, Space.SHADOW, Space.GRADS):
            return Size(c=self.arenas.params.offset(name) * ITEM_BYTES[dtype])
        if space is Space.STATE:
            return Size(c=self.arenas.state.offset(name) * ITEM_BYTES[dtype])
        return Size()

    def _halos_by_root(self) -> dict[Value, Pad]:
        """The widest halo among what shares memory, but none where a vector would see it."""
        result: dict[Value, Pad] = {}
        for value, pad in halos(self.graph, self.target).items():
            root = self.places.of(value).root
            result[root] = widest(result.get(root, NO_HALO), pad)
        for node in self.graph.walk():
            for index, kind in enumerate(node.types):
                if len(kind.shape) != 3:
                    result.pop(self.places.of(node.value(index)).root, None)
        return result


def constants(graph: Graph) -> set[str]:
    """Nodes computed from parameters alone: what the prepare steps run."""
    constant: set[str] = set()
    for node in graph.walk():
        fed = bool(node.operands) and all(value.node in constant for value in node.operands)
        if fed or isinstance(node.op, ops.Parameter):
            constant.add(node.name)
    return constant
