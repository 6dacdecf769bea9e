"""``cnnc verify``: every fused group against the oracle."""

from __future__ import annotations

import argparse
import dataclasses
import json

from rich.table import Table

from cnnc.cli.output import console, write_stdout
from cnnc.frontend import load, read_source
from cnnc.runtime.verify import verify_model


def run(args: argparse.Namespace) -> int:
    """0 if every group is within its tolerance, else 1."""
    groups = verify_model(load(read_source(args.file)), train=args.train)
    if args.json:
        write_stdout(json.dumps([dataclasses.asdict(group) for group in groups], indent=2) + "\n")
    else:
        table = Table("group", "layers", "kernel", "worst relative error")
        for group in groups:
            table.add_row(group.name, " ".join(group.layers), group.kernel, f"{group.error:.2e}")
        console().print(table)
    return 0 if all(group.ok for group in groups) else 1
