"""``cnnc fmt``: pretty-print to stdout, back to the file, or only check."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnc.cli.output import say, write_stdout
from cnnc.files import write_text
from cnnc.frontend import format_source, read_source


def run(args: argparse.Namespace) -> int:
    """0, or 1 if ``--check`` finds a file that would change."""
    source = read_source(Path(args.file))
    formatted = format_source(source)
    if args.check:
        if formatted != source.text:
            say(f"{args.file}: would change")
            return 1
    elif not args.write:
        write_stdout(formatted)
    elif formatted != source.text:
        write_text(args.file, formatted)
    return 0
