"""``cnnc explain`` for people: one line a kernel, totals, and what every op alone would cost."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cnnc.report.explain import Explained, Group

UNBOUNDED = 10_000  # columns; no table needs as many
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")
FLOP_UNITS = ("", "k", "M", "G", "T")


def print_explained(explained: Explained, console: Console) -> None:
    """Print the table; on a narrow terminal without borders, and with names broken."""
    table = _table(explained)
    room = console.options.update_width(UNBOUNDED)
    if Measurement.get(console, room, table).maximum > console.width:
        table = _table(explained, narrow=True)
    console.print(table)
    for line in _remarks(explained):
        console.print(Text(line), soft_wrap=True)


def _table(explained: Explained, *, narrow: bool = False) -> Table:
    title = f"{explained.name}, batch {explained.batch}, {explained.dtype} on {explained.target}"
    table = Table(title=title, show_footer=True)
    if narrow:
        table.box, table.show_edge, table.padding = box.SIMPLE, False, (0, 1, 0, 0)
    totals = explained.totals
    table.add_column("kernel of", footer=f"{totals.kernels} kernels", overflow="fold")
    for heading, footer in (("bytes", _bytes(totals.bytes)), ("issued", _bytes(totals.issued_bytes))):
        table.add_column(heading, footer=footer, justify="right", no_wrap=True)
    table.add_column("FLOPs", footer=_flops(totals.flops), justify="right", no_wrap=True)
    table.add_column("least µs" if not narrow else "µs", footer=_us(totals.roofline_us), justify="right", no_wrap=True)
    table.add_column("ends, because", overflow="fold")
    for group in explained.groups:
        counts = _bytes(group.bytes), _bytes(group.issued_bytes), _flops(group.flops), _us(group.roofline_us)
        table.add_row(_label(group), *counts, group.why_not)
    return table


def _label(group: Group) -> str:
    layers = " ".join(group.layers) or group.name
    return f"{layers}\n  {group.kernel}"


def _remarks(explained: Explained) -> list[str]:
    apart = explained.alone
    counts = f"{_bytes(apart.bytes)}, {_flops(apart.flops)}FLOPs, {_us(apart.roofline_us)} µs"
    lines = [f"every op alone: {apart.kernels} kernels, {counts}"]
    if explained.prepared:
        moved = sum(group.bytes for group in explained.prepared)
        lines.append(f"not counted: {len(explained.prepared)} kernels, {_bytes(moved)}, when weights have changed")
    return lines


def _bytes(count: int) -> str:
    return _scaled(count, BYTE_UNITS)


def _flops(count: int) -> str:
    return _scaled(count, FLOP_UNITS) if count else ""


def _scaled(count: int, units: tuple[str, ...]) -> str:
    """Three significant digits and a unit: ``12.3 MB``."""
    value, place = float(count), 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    digits = 0 if place == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {units[place]}".rstrip()


def _us(microseconds: float) -> str:
    return f"{microseconds:,.{1 if microseconds >= 10 else 2}f}"
