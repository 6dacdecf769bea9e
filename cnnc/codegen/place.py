"""Where a tile lies: rows (pixels times images) and a block of channels, as the names that the text gives them."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.codegen.rows import Rows


@dataclass(frozen=True)
class Corner:
    """Where a tile begins, in scalars, as a tensor descriptor wants it.

    ``row`` is the first image at ``pixel``, or the first of all rows where no pixel is named.
    """

    row: str
    channel: str
    pixel: str = ""


def corner_of(rows: Rows) -> Corner:
    """The corner of the tile that a kernel stores."""
    if rows.pixelwise:
        return Corner("first_image", "first_channel", f"{rows.h} * {rows.width} + {rows.w}")
    return Corner("first_row", "first_channel")


@dataclass(frozen=True)
class Place:
    """The coordinates of one tile ``[height, width]`` in a kernel's text.

    ``rows`` names pixels and extents, ``live`` the rows that exist, ``channel`` the channels (one
    dimension), ``mask`` the elements that exist (two). ``key`` tells its variables from those of other places: empty
    for the tile that the kernel stores. With ``spread`` the pixels of a row differ by column: rows' ``h`` and ``w``
    have two dimensions. ``stored_if`` is the condition under which a value computed here may be stored, because
    the programs that meet it compute each element once. Where there is a ``corner``, products load their factors in
    blocks.
    """

    key: str
    rows: Rows
    live: str = "live"
    channel: str = "channel"
    channel_live: str = "channel_live"
    mask: str = "tile_live"
    channels: str = "COLUMNS"  # how many there are, as text
    height: str = "BM"
    width: str = "BN"
    spread: bool = False
    stored_if: str | None = None
    corner: Corner | None = None

    @property
    def zeros(self) -> str:
        """A tile of zeros."""
        return f"tl.full(({self.height}, {self.width}), 0.0, tl.float32)"

    def row(self, pointer: str) -> str:
        """Offsets of the rows in an operand: one dimension, or two where ``spread``."""
        if not self.spread:
            return self.rows.offsets(pointer)
        h, w = f"{self.rows.h}.to(tl.int64)", f"{self.rows.w}.to(tl.int64)"
        return f"(n.to(tl.int64) * {pointer}_n)[:, None] + {h} * {pointer}_h + {w} * {pointer}_w"

    def at(self, pointer: str, row: str, channel: str | None = None) -> str:
        """Addresses of the tile in an operand whose row offsets are ``row``."""
        across = f"({channel})" if channel else self.channel
        return f"{pointer} + {row if self.spread else f'{row}[:, None]'} + {across}[None, :]"

    def pixel(self, width: str, height: str = "") -> str:
        """The number of each row's pixel, counted through all images if ``height`` is given: two dimensions."""
        h, w = f"{self.rows.h}.to(tl.int64)", self.rows.w
        image = f"(n.to(tl.int64) * {height} + {h})" if height else h
        if self.spread:
            image = f"((n.to(tl.int64) * {height})[:, None] + {h})" if height else h
            return f"({image} * {width} + {w})"
        apart = " + n * 0" if self.rows.pixelwise and not height else ""  # a scalar has no second dimension
        return f"({image} * {width} + {w}{apart})[:, None]"

    def names(self, h: str = "p", w: str = "q") -> dict[str, str]:
        """What templates call this place's variables, the pixel ``h`` and ``w``, and what they are called here."""
        return {
            "live": self.live,
            "channel": self.channel,
            "channel_live": self.channel_live,
            h: self.rows.h,
            w: self.rows.w,
        }
