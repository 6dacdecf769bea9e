"""Checkpoints: safetensors files with weights, the optimiser's state and where training stands."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cnnc.errors import UsageError
from cnnc.files import replacing
from cnnc.train.loop import Epoch
from cnnc.train.protocol import Array, State, Trainable

# No layer can be called this: names in a program hold no colon.
OPTIMIZER = "optimizer:"
METADATA_KEY = "cnnc"


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a training run: everything needed to go on as if it had never stopped."""

    state: State
    optimizer: State
    step: int
    seed: int
    batch_size: int
    data: str
    history: tuple[Epoch, ...]


def checkpoint_of(net: Trainable, *, seed: int, batch_size: int, data: str, history: tuple[Epoch, ...]) -> Checkpoint:
    """The network's present state."""
    return Checkpoint(net.state_dict(), net.optimizer_state(), net.step, seed, batch_size, data, history)


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an older file of that name stays until the new one is whole.

    The tensors are the state dict's under their own names, so the file is a weights file too, and the
    optimiser's with the prefix ``optimizer:``.
    """
    tensors = {name: np.ascontiguousarray(array) for name, array in checkpoint.state.items()}
    tensors |= {OPTIMIZER + name: np.ascontiguousarray(array) for name, array in checkpoint.optimizer.items()}
    facts = {
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "batch_size": checkpoint.batch_size,
        "data": checkpoint.data,
        "history": [dataclasses.asdict(epoch) for epoch in checkpoint.history],
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(facts)})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        UsageError: damaged, not a checkpoint, or with numbers that are not finite.
        OSError: the file can't be read.
    """
    tensors, metadata = _read(path)
    try:
        facts = json.loads(metadata[METADATA_KEY])
        history = tuple(Epoch(**epoch) for epoch in facts["history"])
        step, seed, batch_size = (int(facts[key]) for key in ("step", "seed", "batch_size"))
        data = str(facts["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: weights without a training run's records; it can't be resumed") from error
    state = {name: array for name, array in tensors.items() if not name.startswith(OPTIMIZER)}
    optimizer = {name.removeprefix(OPTIMIZER): array for name, array in tensors.items() if name.startswith(OPTIMIZER)}
    return Checkpoint(state, optimizer, step, seed, batch_size, data, history)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The state dict in a safetensors file; a checkpoint's optimiser state is left out.

    Raises:
        UsageError: damaged, no safetensors file, or with numbers that are not finite.
        OSError: the file can't be read.
    """
    tensors, _ = _read(path)
    return {name: array for name, array in tensors.items() if not name.startswith(OPTIMIZER)}


def restore(net: Trainable, checkpoint: Checkpoint) -> None:
    """Put a network where the checkpoint was taken."""
    net.load_state_dict(checkpoint.state)
    net.load_optimizer_state(checkpoint.optimizer)
    net.step = checkpoint.step


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    with open(path, "rb"):
        pass  # safetensors reports a missing file or a folder in words of its own; open() raises an OSError
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            names = file.keys()
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (SafetensorError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a safetensors file that numpy can read ({error})") from error
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"{path}: {name} holds numbers that are not finite")
    return tensors, metadata
