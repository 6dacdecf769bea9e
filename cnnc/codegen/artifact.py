"""The output of ``cnnc compile``: a folder with readable kernels, the plan, and one binary per kernel and target."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnc.codegen import artifact_json
from cnnc.codegen.build import Binaries
from cnnc.errors import UsageError

FORMAT = "cnnc artifact 1"
PLAN, KERNELS = "plan.json", "kernels.py"


@dataclass(frozen=True)
class Artifact:
    """What a compiled network says of itself: the program it came from and how it was compiled.

    A ``sequence`` is a 1-D net: its buffers have ``Lx1xC`` where its callers have ``LxC``.
    """

    name: str
    text: str
    dtype: str
    train: bool
    targets: tuple[str, ...]
    sequence: bool = False


def write_artifact(directory: str | os.PathLike[str], artifact: Artifact, binaries: Binaries) -> None:
    """Write the folder: all of it or, on failure, nothing.

    An artifact that stands there is replaced; nothing else is.

    Raises:
        UsageError: the folder holds other things, or can't be written.
    """
    final = Path(os.path.realpath(directory))
    check_replaceable(directory)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        _fill(temporary, artifact, binaries)
        _exchange(temporary, final)
    except OSError as error:
        raise UsageError(f"can't write {directory}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(directory: str | os.PathLike[str]) -> None:
    """Whether an artifact may be written there; to be called before a long compilation, too.

    Raises:
        UsageError: it is no folder, or one with files that are not an artifact's.
    """
    path = Path(os.path.realpath(directory))
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{directory} is a file, not a folder")
    present = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}
    if not present:
        return
    try:
        known = {PLAN, KERNELS, *_files(_plan(directory))}
    except UsageError:
        known = set()
    foreign = sorted(name for name in present - known if not name.startswith("__pycache__" + os.sep))
    if not known:
        raise UsageError(f"{directory} is not empty and not the output of cnnc compile, so it is left as it is")
    if foreign:
        raise UsageError(f"{directory} holds {foreign[0]}, which cnnc compile did not write, so it is left as it is")


def read_artifact(directory: str | os.PathLike[str]) -> Artifact:
    """What a folder was compiled from.

    Raises:
        UsageError: it is no artifact, or a file of it is missing or damaged.
    """
    plan = _plan(directory)
    if not (Path(directory) / KERNELS).is_file():
        raise UsageError(f"{directory} has no {KERNELS}; compile it again")
    for name, digest in _files(plan).items():
        try:
            image = (Path(directory) / name).read_bytes()
        except OSError as error:
            raise UsageError(f"can't read {name} in {directory}: {error.strerror}; compile it again") from error
        if hashlib.sha256(image).hexdigest() != digest:
            raise UsageError(f"{name} in {directory} is damaged; compile it again")
    return _describe(plan, directory)


def _describe(plan: Mapping[str, Any], directory: str | os.PathLike[str]) -> Artifact:
    kinds = {"name": str, "text": str, "dtype": str, "train": bool, "sequence": bool}
    targets = plan.get("targets")
    sound = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    if not sound or not all(isinstance(plan.get(field), kind) for field, kind in kinds.items()):
        raise UsageError(f"{PLAN} in {directory} is damaged; compile it again")
    described = (plan["name"], plan["text"], plan["dtype"], plan["train"], tuple(plan["targets"]))
    return Artifact(*described, plan["sequence"])


def _plan(directory: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(directory)
    if not path.is_dir():
        raise UsageError(f"{directory} is {'a file, not a folder' if path.exists() else 'not there'}")
    try:
        plan = json.loads((path / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{directory} has no {PLAN}: it is not the output of cnnc compile") from error
    except OSError as error:
        raise UsageError(f"can't read {PLAN} in {directory}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{PLAN} in {directory} is damaged; compile it again") from error
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise UsageError(f"{PLAN} in {directory} is not of this version of cnnc compile; compile it again")
    return plan


def _files(plan: Mapping[str, Any]) -> dict[str, str]:
    """Binaries and their hashes; only plain names inside the folder count."""
    files = plan.get("files")
    if not isinstance(files, dict):
        raise UsageError(f"{PLAN} is damaged; compile it again")
    inside = (name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts)
    return {str(Path(name)): str(files[name]) for name in inside}


def _fill(folder: Path, artifact: Artifact, binaries: Binaries) -> None:
    files: dict[str, str] = {}
    for key, compiled in binaries.compiled.items():
        name = binaries.file_name(key)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(compiled.image)
        files[name] = hashlib.sha256(compiled.image).hexdigest()
    (folder / KERNELS).write_bytes(binaries.source.encode())
    document = _document(artifact, binaries, dict(sorted(files.items())))
    (folder / PLAN).write_bytes(artifact_json.text(document).encode() + b"\n")


def _document(artifact: Artifact, binaries: Binaries, files: Mapping[str, str]) -> dict[str, object]:
    plan = next(iter(binaries.modules.values())).plan
    return {
        "format": FORMAT,
        "name": artifact.name,
        "dtype": artifact.dtype,
        "train": artifact.train,
        "sequence": artifact.sequence,
        "targets": artifact.targets,
        "text": artifact.text,
        "params": artifact_json.arena(plan.params),
        "state": artifact_json.arena(plan.state),
        "variants": {label: artifact_json.variant(label, binaries) for label in binaries.modules},
        "kernels": artifact_json.kernels(binaries),
        "files": files,
    }


def _exchange(temporary: Path, final: Path) -> None:
    """Put the new folder where the old one is; the old one comes back if that fails."""
    old = final.with_name(f".{final.name}.{secrets.token_hex(4)}.old")
    while True:
        replaced = final.exists()
        if replaced:
            os.rename(final, old)
        try:
            os.rename(temporary, final)
        except OSError as error:
            if replaced:
                os.rename(old, final)
            elif error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another process wrote the same artifact in between
            raise
        break
    if replaced:
        shutil.rmtree(old, ignore_errors=True)
