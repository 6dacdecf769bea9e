"""Pieces of kernel text whose own names are kept apart from those of other pieces in the same kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Names that mean the same in every piece: of the language, of the launch, of the tile that the kernel stores.
SHARED = frozenset({"tl", "for", "in", "range", "float", "None", "BM", "BN", "BK", "BLOCK", "N", "n", "group"})
# A name, but no attribute, no text and no keyword of a call (``mask=``, without spaces).
_NAME = re.compile(r"(?<![\w.\"'])([A-Za-z_]\w*)(?!\w)(?!=[^=])")


def instantiate(text: str, tag: str, names: Mapping[str, str]) -> str:
    """The text with ``names`` replaced and ``tag`` behind all names of its own. Comments stay as they are."""

    def rename(match: re.Match[str]) -> str:
        name = match.group(1)
        return names[name] if name in names else name if name in SHARED else name + tag

    def line(text: str) -> str:
        code, mark, comment = text.partition("#")
        return _NAME.sub(rename, code) + mark + comment

    return "\n".join(map(line, text.strip("\n").splitlines()))
