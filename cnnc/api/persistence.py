"""A network as one file: safetensors with the program's text in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cnnc.errors import UsageError
from cnnc.files import replacing
from cnnc.runtime.arrays import Array

FORMAT = 1
METADATA_KEY = "cnnc_network"
OPTIMIZER = "optimizer:"  # no layer can be called this: names in a program hold no colon


@dataclass(frozen=True)
class Facts:
    """What a saved network is, beside its tensors."""

    name: str
    program: str
    dtype: str
    training: bool
    seed: int
    step: int
    format: int = FORMAT


@dataclass(frozen=True)
class Saved:
    """A network's facts, weights and optimiser state."""

    facts: Facts
    state: Mapping[str, Array]
    optimizer: Mapping[str, Array] = field(default_factory=dict)


def write_saved(saved: Saved, path: str | os.PathLike[str]) -> None:
    """Write to a temporary name, then rename: an older file stays until the new one is whole."""
    tensors = {name: np.ascontiguousarray(value) for name, value in saved.state.items()}
    tensors |= {OPTIMIZER + name: np.ascontiguousarray(value) for name, value in saved.optimizer.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(asdict(saved.facts))})


def read_saved(path: str | os.PathLike[str]) -> Saved:
    """Read what ``write_saved`` wrote.

    Raises:
        UsageError: not such a file, or damaged.
        OSError: it can't be read.
    """
    with open(path, "rb"):  # a missing file is an OSError with its name, whatever safetensors says
        pass
    try:
        with safe_open(os.fspath(path), "numpy") as file:
            facts: Any = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        saved = Facts(**facts) if isinstance(facts, dict) else None
    except (SafetensorError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a file that a network was saved to") from error
    if saved is None:
        raise UsageError(f"{path}: a weights file without its program; give it to `--weights` or load_state_dict")
    if saved.format != FORMAT:
        raise UsageError(f"{path}: format {saved.format}, but this version reads format {FORMAT}")
    optimizer = {name.removeprefix(OPTIMIZER): t for name, t in tensors.items() if name.startswith(OPTIMIZER)}
    return Saved(saved, {name: t for name, t in tensors.items() if not name.startswith(OPTIMIZER)}, optimizer)
