"""``cnnc summary``: the table, or the same as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cnnc.cli.output import console, write_stdout
from cnnc.frontend import load, read_source
from cnnc.report.summary import print_table, summary_json


def run(args: argparse.Namespace) -> int:
    """Print the summary of one program."""
    model = load(read_source(Path(args.file)))
    if args.json:
        write_stdout(json.dumps(summary_json(model, train=args.train), indent=2) + "\n")
    else:
        print_table(model, console(), train=args.train)
    return 0
