"""The command ``cnnc``: one module per sub-command, imported only when it is asked for."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from cnnc.cli.output import say_error
from cnnc.cli.parser import parse
from cnnc.errors import CnnError

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    0 is success, 1 a check that found something, 2 bad input with one sentence on stderr.
    """
    if sys.stdout is None:
        say_error("standard output is closed")
        return BAD_INPUT
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of a comment shows its code rather than stopping the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = parse(argv)
        command = importlib.import_module(f"cnnc.cli.{args.command}")
        status: int = command.run(args)
        sys.stdout.flush()
    except CnnError as error:
        say_error(error)
    except BrokenPipeError:
        # The reader has gone (`cnnc summary ... | head`); the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        say_error(error)
    except MemoryError:
        say_error("out of memory")
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return status
    return BAD_INPUT
