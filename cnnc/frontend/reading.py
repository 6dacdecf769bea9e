"""From a path or text to a Source, or a sentence that says why not."""

from __future__ import annotations

import os
from pathlib import Path

from cnnc.errors import UsageError
from cnnc.resources import model_aliases, resource
from cnnc.source import Source

MAX_BYTES = 1_000_000
TEXT_NAME = "<text>"
# No path is longer; also keeps a large program text away from the file system.
_MAX_PATH = 4096


def read_source(path_or_text: str | os.PathLike[str]) -> Source:
    """Read a program from a file, or take the text itself.

    A ``Path`` is always a file. A string is a file if it has no new line and such a file exists;
    one that looks like a path (ends in ``.cnn``) but does not exist is an error, anything else is text.
    ``models/NAME.cnn`` is the model that cnnc ships, by its own name or another (``models/aliases.txt``), where
    the working folder has no such file.

    Raises:
        UsageError: missing, a folder, unreadable, too large, or not UTF-8 text.
    """
    if not isinstance(path_or_text, str):
        return _read_file(Path(path_or_text))
    if _is_path(path_or_text):
        return _read_file(Path(path_or_text))
    _check_size(len(path_or_text), "the program text")
    return Source(TEXT_NAME, _normalise(path_or_text))


def _is_path(text: str) -> bool:
    if not text or len(text) > _MAX_PATH or "\n" in text or "\r" in text or "\0" in text:
        return False
    if text.endswith(".cnn"):
        return True
    try:
        return os.path.exists(text)
    except (OSError, ValueError):
        return False


def _shipped(path: Path) -> Path:
    """The file itself, or the shipped model of that name."""
    if len(path.parts) == 2 and path.parts[0] == "models" and not os.path.lexists(path):
        own = model_aliases().get(path.stem, path.stem)
        model = resource("models", f"{own}{path.suffix}")
        return model if model.is_file() else path
    return path


def _read_file(path: Path) -> Source:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a program")
        with open(_shipped(path), "rb") as file:
            # One byte more than allowed is enough to refuse; the file may be endless.
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except PermissionError:
        raise UsageError(f"{path} can't be read: permission denied") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    _check_size(len(data), str(path))
    try:
        return Source(str(path), _normalise(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: byte {error.start} is not UTF-8") from None


def _check_size(size: int, what: str) -> None:
    if size > MAX_BYTES:
        raise UsageError(f"{what} is larger than {MAX_BYTES:,} bytes, the limit for a program")


def _normalise(text: str) -> str:
    """Without byte order mark, and with plain new lines, whatever the editor wrote."""
    return text.removeprefix("\N{BYTE ORDER MARK}").replace("\r\n", "\n").replace("\r", "\n")
