"""``cnnc verify``: every fused group against the oracle."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rich.table import Table

from cnnc.cli.output import console, write_stdout
from cnnc.frontend import load, read_source
from cnnc.passes.pipelines import left_out
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import Group, verify_model


def run(args: argparse.Namespace) -> int:
    """0 if every group is within its tolerance, else 1."""
    without = left_out(args.without)
    model = load(read_source(Path(args.file)))
    device = open_device(args.device, args.dtype)
    terminal = console()
    groups: list[Group] = []
    with terminal.status("verifying") as status:
        settings = {"train": args.train, "batch": args.batch, "seed": args.seed, "without": without}
        for group in verify_model(model, device, args.dtype, **settings):
            groups.append(group)
            status.update(f"verified {group.variant} {group.name}")
    if args.json:
        facts = [{**dataclasses.asdict(group), "passed": group.passed} for group in groups]
        write_stdout(json.dumps(facts, indent=2) + "\n")
    else:
        terminal.print(_table(groups))
    return 0 if all(group.passed for group in groups) else 1


def _table(groups: list[Group]) -> Table:
    table = Table()
    for heading in ("run", "group", "layers", "kernel"):
        table.add_column(heading, overflow="fold")
    table.add_column("relative error", justify="right")
    table.add_column("")
    for group in groups:
        verdict = "ok" if group.passed else f"more than {group.tolerance:g}"
        cells = (group.variant, group.name, " ".join(group.layers), group.kernel, f"{group.error:.1e}", verdict)
        table.add_row(*cells, style=None if group.passed else "red")
    return table
