"""``cnnc train``: data, progress, checkpoints and a log."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from cnnc import api
from cnnc.cli.output import console, say
from cnnc.errors import UsageError
from cnnc.files import write_text
from cnnc.frontend import load, read_source
from cnnc.passes.budget import Budget
from cnnc.train import (
    Checkpoint,
    Epoch,
    Trainable,
    checkpoint_of,
    fit,
    load_checkpoint,
    load_data,
    restore,
    save_checkpoint,
)
from cnnc.train.progress import ProgressDisplay

LAST = "last.safetensors"
BEST = "best.safetensors"
LOG = "log.jsonl"


def run(args: argparse.Namespace) -> int:
    """Train, write DIR/last.safetensors, best.safetensors and log.jsonl, and say how it went."""
    model = load(read_source(Path(args.file)))
    out = Path(args.out or Path("runs") / model.name)
    before = _earlier_run(out, args)
    seed = before.seed if before else args.seed or 0
    batch_size = args.batch or (before.batch_size if before else model.train.batch)
    epochs = args.epochs or model.train.epochs
    if before and len(before.history) >= epochs:
        raise UsageError(f"{out / LAST}: has {len(before.history)} epochs already; give a larger --epochs")
    budget = None if args.memory_budget is None else Budget(args.memory_budget, batch_size)
    settings = {"device": args.device, "dtype": args.dtype, "without": args.without}
    net = api.Network(model, **settings, training=True, seed=seed, budget=budget)
    data = load_data(args.data, net.input_shape, net.classes, label_shape=net.label_shape, seed=seed)
    if before:
        restore(net, before)
    out.mkdir(parents=True, exist_ok=True)

    def save(history: tuple[Epoch, ...]) -> None:
        _save(out, net, checkpoint_of(net, seed=seed, batch_size=batch_size, data=args.data, history=history))

    terminal = console()
    history = before.history if before else ()
    try:
        with ProgressDisplay(terminal) as display:
            history = fit(
                net,
                data,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                history=history,
                watcher=display,
                after_epoch=save,
            )
    except KeyboardInterrupt:
        if (out / LAST).exists():
            say(f"stopped; --resume goes on from {out / LAST}")
        raise
    _conclude(terminal, history, out)
    return 0


def _earlier_run(out: Path, args: argparse.Namespace) -> Checkpoint | None:
    """The checkpoint to go on from; an earlier run is never overwritten by accident."""
    path = out / LAST
    if not args.resume:
        if path.exists():
            raise UsageError(f"{path} exists: go on with --resume, or give another --out")
        return None
    before = load_checkpoint(path)
    if args.seed is not None and args.seed != before.seed:
        raise UsageError(f"{path}: was trained with --seed {before.seed}, not {args.seed}")
    if args.data != before.data:
        raise UsageError(f"{path}: was trained with --data {before.data}, not {args.data}")
    return before


def _save(out: Path, net: Trainable, checkpoint: Checkpoint) -> None:
    save_checkpoint(out / LAST, checkpoint)
    history = checkpoint.history
    if history[-1] is _best(history):
        save_checkpoint(out / BEST, checkpoint)
    write_text(out / LOG, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history))


def _best(history: tuple[Epoch, ...]) -> Epoch:
    """The first epoch of those with the highest validation accuracy."""
    return max(history, key=lambda epoch: epoch.validation_accuracy)


def _conclude(terminal: Console, history: tuple[Epoch, ...], out: Path) -> None:
    best = _best(history)
    terminal.print(
        f"validation accuracy {history[-1].validation_accuracy:.4f}"
        f" (best {best.validation_accuracy:.4f} after epoch {best.epoch}); checkpoints and log in {out}",
        soft_wrap=True,
        markup=False,
    )
