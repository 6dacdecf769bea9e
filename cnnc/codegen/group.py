"""Writes a fused group as one kernel: a tile of rows and channels, what it is computed from, what follows on it.

A program has one tile; or, where the group sums over rows, a block of channels and a share of the rows, which it
walks over tile by tile.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace

from cnnc.codegen.body import Body
from cnnc.codegen.context import Context
from cnnc.codegen.epilogue import chain_text, short_name, store_result
from cnnc.codegen.kernel import Kernel, fixed
from cnnc.codegen.launch import Programs
from cnnc.codegen.naming import label, words
from cnnc.codegen.place import Place, corner_of
from cnnc.codegen.reductions import REDUCTIONS, Sums
from cnnc.codegen.rows import Rows
from cnnc.codegen.rules import RULES
from cnnc.codegen.splits import ARRIVE, RESET
from cnnc.ir import ops
from cnnc.passes.descriptors import is_pixelwise
from cnnc.passes.nests import phases
from cnnc.passes.prologues import LINEARS, factor_values

COLUMNS = """
column_tiles = (COLUMNS + BN - 1) // BN
{pid} = tl.program_id(0)
first_channel = {pid} % column_tiles * BN
channel = first_channel + tl.arange(0, BN)
channel_live = channel < COLUMNS
"""

GROUPED = """
column_tiles = (COLUMNS + BN - 1) // BN
{pid} = tl.program_id(0)
group = {pid} // column_tiles % GROUPS
column = {pid} % column_tiles * BN + tl.arange(0, BN)
channel = group * COLUMNS + column
channel_live = column < COLUMNS
"""

# Pixels of one stride phase have the same taps, so that a phase's loop meets no tap that misses.
PHASE = """
first_h = phase // STRIDE_W
first_w = phase % STRIDE_W
phase_h = (H - first_h + STRIDE_H - 1) // STRIDE_H
phase_w = (W - first_w + STRIDE_W - 1) // STRIDE_W
first_r = (first_h + PAD_TOP) % STRIDE_H
first_s = (first_w + PAD_LEFT) % STRIDE_W
taps_r = tl.maximum((R - first_r + STRIDE_H - 1) // STRIDE_H, 1)
taps_s = tl.maximum((S - first_s + STRIDE_W - 1) // STRIDE_W, 1)
width = tl.maximum(phase_w, 1)  # a stride may exceed the image
"""

PHASE_ROWS = """
live = rows < phase_h * phase_w * N
n = rows % N
h = first_h + rows // N // width * STRIDE_H
w_ = first_w + rows // N % width * STRIDE_W
"""


def emit_group(context: Context) -> None:
    """One kernel for a product, pool or chain with all that is fused to it."""
    kernel = Kernel(_name(context), "")
    body = Body(context, kernel, RULES)
    _Group(context, kernel, body).emit()


def _name(context: Context) -> str:
    """``conv_fprop_bias_relu``: the words of the parts in order; long ones end in how many more there are."""
    found = [label(part.op) for part in context.parts]
    main = context.main
    if context.depthwise:
        found[main] = "depthwise_fprop" if isinstance(context.anchor, ops.Conv) else "depthwise_dgrad"
    elif context.is_product and context.gathers(main):
        found[main] += "_gather"
    elif context.phased:
        found[main] += "_phases"
    return short_name(found)


class _Group:
    def __init__(self, context: Context, kernel: Kernel, body: Body) -> None:
        self.context = context
        self.kernel = kernel
        self.body = body
        parts = list(enumerate(context.parts))
        self.reductions = tuple(index for index, part in parts if type(part.op) in REDUCTIONS)
        self.after = tuple(index for index, part in parts if isinstance(part.op, ops.BatchNormUpdate))
        self.shape = context.tile_shape
        grouped = isinstance(context.anchor, ops.Conv | ops.ConvDgrad) and not context.depthwise
        self.groups: int = getattr(context.anchor, "groups", 1) if grouped else 1
        channels = "(COLUMNS * GROUPS)" if self.groups > 1 else "COLUMNS"
        rows = self._rows()
        self.place = Place("", rows, channels=channels, corner=corner_of(rows) if context.tile.descriptors else None)
        self.sums = Sums(body, self.reductions, self.place.channels)

    def _rows(self) -> Rows:
        image = (self.shape[0], self.shape[1]) if len(self.shape) == 3 else None
        rows = Rows(image, "h", "w_", "H", "W") if self.context.rows_of_dgrad else Rows(image)
        return replace(rows, pixelwise=self.context.tile.descriptors and is_pixelwise(self.context.step.op))

    def emit(self) -> None:
        context, kernel = self.context, self.kernel
        kernel.summary = self._summary()
        self.place.rows.declare(kernel)
        kernel.integers(COLUMNS=self.shape[-1] // self.groups)
        kernel.constant(BM=context.tile.m, BN=context.tile.n)
        if context.is_product:
            kernel.constant(BK=context.tile.k)
        if self.groups > 1:
            kernel.constant(GROUPS=self.groups)
        self._columns()
        if self.reductions:
            self._walk()
        else:
            self._tile(self._first_tile())
        context.add(kernel, self._grid())

    def _summary(self) -> str:
        parts, main = self.context.parts, self.context.main
        text = f"{label(parts[main].op).replace('_', ' ').capitalize()}"
        if main:
            text += f", of operands computed on the way: {words(parts[:main])}"
        return f"{text}.{chain_text(self.context)}"

    # -- rows and columns -------------------------------------------------------------------------

    def _columns(self) -> None:
        """Which channels a program has: in either case neighbouring programs share their rows."""
        self.kernel.write((GROUPED if self.groups > 1 else COLUMNS).format(pid="pid"))
        if self.context.phased:
            self.kernel.write("phase = tl.program_id(1)" + (" // SPLITS" if self.reductions else ""))
            self.kernel.write(PHASE)

    def _first_tile(self) -> str:
        """Which rows, or which tile of images at one pixel, a program has."""
        columns = "(column_tiles * GROUPS)" if self.groups > 1 else "column_tiles"
        if self.place.rows.pixelwise:
            return f"tile = pid // {columns}"
        if self.place.corner:
            return f"{self.place.corner.row} = pid // {columns} * BM\nrows = {self.place.corner.row} + tl.arange(0, BM)"
        return f"rows = pid // {columns} * BM + tl.arange(0, BM)"

    def _tile(self, rows: str) -> None:
        """Decode a tile's rows, compute and store what leaves the kernel."""
        self.kernel.write(rows)
        self.kernel.write(PHASE_ROWS if self.context.phased else "\n".join(self.place.rows.decode()))
        self.kernel.write("tile_live = live[:, None] & channel_live[None, :]")
        self._store()

    def _store(self) -> None:
        reduced = {self.body.number(i, slot) for i in (*self.reductions, *self.after) for slot in range(2)}
        for slot, number in enumerate(self.context.results):
            if number not in reduced and not self._stored_on_the_way(number):
                store_result(self.body, self.place, slot, number)

    def _stored_on_the_way(self, number: int) -> bool:
        """A value that a product over single pixels multiplies, or that is made from: it stores it where it does."""
        op, count = self.context.step.op, len(self.context.inputs)
        if not isinstance(op, ops.Fused) or not isinstance(op.anchor, LINEARS):
            return False
        return number in factor_values(op, self.context.value_types[:count])

    def _grid(self) -> tuple[Programs, ...]:
        tile, op = self.context.tile, self.context.anchor
        columns = -(-(self.shape[-1] // self.groups) // tile.n) * self.groups
        if self.reductions:
            return fixed(columns), fixed(self._programs)
        if not self.context.phased:
            return self.place.rows.programs(tile.m, columns)
        assert isinstance(op, ops.ConvDgrad)
        stride = op.window.stride
        # The first phase has the most pixels.
        part = Rows((-(-op.image[0] // stride[0]), -(-op.image[1] // stride[1])))
        return (*part.programs(tile.m, columns), fixed(phases(op)))

    # -- sums over rows ---------------------------------------------------------------------------

    @property
    def _programs(self) -> int:
        """Programs that share a block of channels."""
        return self.context.tile.splits * (phases(self.context.anchor) if self.context.phased else 1)

    def _walk(self) -> None:
        """A loop over this program's share of the rows, then the sums: joined by the last program to finish."""
        kernel, context = self.kernel, self.context
        kernel.counts(SPLITS=context.tile.splits)
        self.sums.begin()
        # Neighbouring tiles go to programs that run at the same time: they share what they read.
        if self.place.rows.pixelwise:
            self._walk_pixels()
        else:
            self._walk_rows()
        if self._programs == 1:
            self._finish()
            return
        kernel.pointer("partial", context.workspace)
        kernel.pointer("counters", context.counters)
        self.sums.leave("tl.program_id(1)")
        kernel.write(ARRIVE)
        kernel.counts(PROGRAMS=self._programs)
        with kernel.block("if arrived == PROGRAMS - 1:"):
            self.sums.join("PROGRAMS")
            self._finish()
            kernel.write(RESET)

    def _walk_rows(self) -> None:
        kernel, phased = self.kernel, self.context.phased
        kernel.write(f"total_rows = {'phase_h * phase_w * N' if phased else self.place.rows.total}")
        kernel.write(f"split = tl.program_id(1){' % SPLITS' if phased else ''}")
        with kernel.block("for first_row in range(split * BM, total_rows, SPLITS * BM):"):
            kernel.write("live_rows = tl.minimum(total_rows - first_row, BM).to(tl.float32)")
            self._tile("rows = first_row + tl.arange(0, BM)")
            self.sums.step(self.place)

    def _walk_pixels(self) -> None:
        kernel, rows = self.kernel, self.place.rows
        kernel.write(f"tiles = {rows.height} * {rows.width} * ((N + BM - 1) // BM)")
        with kernel.block("for tile in range(tl.program_id(1), tiles, SPLITS):"):
            self._tile("live_rows = tl.minimum(N - tile % ((N + BM - 1) // BM) * BM, BM).to(tl.float32)")
            self.sums.step(self.place)

    def _finish(self) -> None:
        """Store what the sums give, and what is computed from it channel by channel."""
        results = self.sums.results()
        for index in self.after:
            self._update(index, results)
        for number, buffer in zip(self.context.results, self.context.outputs, strict=True):
            if buffer is not None and number in results:
                out = self.kernel.pointer("out", buffer)
                self.kernel.write(f"tl.store({out} + channel, {results[number]}, mask=channel_live)")

    def _update(self, index: int, results: dict[int, str]) -> None:
        """Running statistics from the batch's; the variance is unbiased first, and stays for a single element."""
        part = self.body.part(index)
        assert isinstance(part.op, ops.BatchNormUpdate)
        kernel = self.kernel
        kernel.constant(**{f"MOMENTUM_{index}": part.op.momentum})
        kernel.counts(**{f"PIXELS_{index}": part.op.pixels})
        mean, var = (results[number] for number in part.operands[2:])
        for slot, name in enumerate(("mean", "var")):
            pointer = self.body.pointer(part.operands[slot], f"running_{name}")
            kernel.write(f"old_{name}_{index} = tl.load({pointer} + channel, mask=channel_live, other=0.0)")
        kernel.write(
            textwrap.dedent(f"""
            count_{index} = PIXELS_{index} * N
            unbiased_{index} = ({var}) * (count_{index} / tl.maximum(count_{index} - 1, 1))
            new_mean_{index} = (1.0 - MOMENTUM_{index}) * old_mean_{index} + MOMENTUM_{index} * {mean}
            new_var_{index} = (1.0 - MOMENTUM_{index}) * old_var_{index} + MOMENTUM_{index} * unbiased_{index}
            new_var_{index} = tl.where(count_{index} > 1, new_var_{index}, old_var_{index})
            """)
        )
        results[self.body.number(index, 0)] = f"new_mean_{index}"
        results[self.body.number(index, 1)] = f"new_var_{index}"
