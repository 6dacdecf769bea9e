"""``cnnc graph``: the picture of a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnc.frontend import load, read_source
from cnnc.report.picture.draw import check_suffix, draw


def run(args: argparse.Namespace) -> int:
    """Write the picture of one program."""
    check_suffix(args.output)
    draw(load(read_source(Path(args.file))), args.output, train=args.train)
    return 0
