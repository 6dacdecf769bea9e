"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; on success it replaces ``path``, on failure it goes.

    A link is followed, a file's mode is kept, and what is no regular file (``/dev/null``, a pipe) is
    written directly.

    Raises:
        OSError: the folder does not exist or can't be written; its ``filename`` is ``path``.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file() and not final.is_dir():
        yield final
        return
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        if final.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        temporary.touch(exist_ok=False)
        if final.exists():
            shutil.copymode(final, temporary)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file's contents by text in UTF-8, its line ends as they are."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())
