"""``cnnc bench``: times on this machine, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cnnc.cli.output import console, say, write_stdout
from cnnc.frontend import read_source
from cnnc.report.bench import check_peers, measure, print_report, report_json


def run(args: argparse.Namespace) -> int:
    """Time all programs; nothing is printed unless all are right."""
    sources = [read_source(Path(path)) for path in args.files]
    check_peers(args.against)
    measured = []
    for source in sources:
        if not args.json:
            say(f"timing {source.name}")
        measured.append(measure(source, train=args.train, against=args.against))
    if args.json:
        write_stdout(json.dumps(report_json(measured), indent=2) + "\n")
    else:
        print_report(measured, console())
    return 0
