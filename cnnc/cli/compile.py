"""``cnnc compile``: a folder of kernels for GPUs that need not be there."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnc import api
from cnnc.cli.output import console


def run(args: argparse.Namespace) -> int:
    """Write the folder; what was built goes to stdout."""
    terminal = console()
    with terminal.status("compiling") as status:

        def progress(message: str) -> None:
            status.update(message)

        built = api.build_artifact(
            Path(args.file),
            args.out,
            targets=args.target,
            dtype=args.dtype,
            train=args.train,
            progress=progress,
            without=args.without,
            memory_budget=args.memory_budget,
        )
    terminal.print(str(built), markup=False, soft_wrap=True)
    return 0
