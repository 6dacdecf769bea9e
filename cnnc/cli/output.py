"""Where commands write: results on stdout, errors on stderr, colour only on a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from cnnc.errors import ProgramError

PIPE_WIDTH = 160


def say_error(error: BaseException | str) -> None:
    """One error on stderr: a program's errors as they are, all else as ``cnnc: error: sentence``."""
    text = Text(str(error) if isinstance(error, ProgramError) else f"cnnc: error: {_sentence(error)}")
    text.highlight_words(["error:"], style="bold red")
    Console(stderr=True).print(text, soft_wrap=True)


def say(message: str) -> None:
    """A remark for people, on stderr, so that stdout holds results alone."""
    Console(stderr=True).print(Text(message), soft_wrap=True)


def write_stdout(text: str) -> None:
    """Text as it is: no colour, no wrapping, no new line added."""
    sys.stdout.write(text)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``main``, which gives it the status that shells expect."""
        raise BrokenPipeError


def console() -> Console:
    """For tables and progress on stdout; a file or pipe has room for the widest table."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _sentence(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return where + error.strerror
    return str(error)
