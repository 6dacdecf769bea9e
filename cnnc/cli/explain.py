"""``cnnc explain``: each kernel of a run, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cnnc.cli.output import console, write_stdout
from cnnc.codegen.build_targets import parse_targets
from cnnc.frontend import load, read_source
from cnnc.passes.budget import Budget
from cnnc.passes.pipelines import left_out
from cnnc.report.explain import explain, explain_json
from cnnc.report.explain_table import print_explained


def run(args: argparse.Namespace) -> int:
    """Print what one run of a program launches."""
    without = left_out(args.without)
    (target,) = parse_targets([args.target])
    model = load(read_source(Path(args.file)))
    budget = None if args.memory_budget is None else Budget(args.memory_budget, args.batch)
    settings = {"batch": args.batch, "dtype": args.dtype, "target": target}
    explained = explain(model, **settings, train=args.train, without=without, budget=budget)
    if args.json:
        write_stdout(json.dumps(explain_json(explained), indent=2) + "\n")
    else:
        print_explained(explained, console())
    return 0
