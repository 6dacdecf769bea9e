"""``cnnc expand``: the program in explicit statements."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnc.cli.output import write_stdout
from cnnc.frontend import expand, read_source


def run(args: argparse.Namespace) -> int:
    """Print the expanded program."""
    write_stdout(expand(read_source(Path(args.file))))
    return 0
