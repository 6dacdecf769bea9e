"""``cnnc check``: every program's errors, not just the first program's."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnc.cli.output import say_error, write_stdout
from cnnc.errors import CnnError
from cnnc.frontend import load, read_source


def run(args: argparse.Namespace) -> int:
    """0 if all programs are right, else 2."""
    wrong = 0
    for path in args.files:
        try:
            load(read_source(Path(path)))
        except (CnnError, OSError) as error:
            wrong += 1
            say_error(error)
        else:
            write_stdout(f"{path}: ok\n")
    return 2 if wrong else 0
