"""Pictures as files: ``.dot`` as text, ``.svg`` and ``.png`` laid out by Graphviz, which pygraphviz brings."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnc.errors import UsageError
from cnnc.files import replacing
from cnnc.ir.model import Model
from cnnc.report.picture.boxes import boxes_of
from cnnc.report.picture.dot import dot_text
from cnnc.report.picture.fold import fold
from cnnc.report.summary import summarize

SUFFIXES = (".svg", ".png", ".dot")
STDERR = 2


def picture_text(model: Model, *, train: bool = False) -> str:
    """The picture in DOT, with the network's name and size over it."""
    summary = summarize(model, train=train)
    title = f"{summary.name}: {_short(summary.trainable)} parameters, {_short(summary.macs)} multiply-adds"
    return dot_text(fold(boxes_of(model, train=train)), title)


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The path's suffix in small letters, if it is one of ``SUFFIXES``.

    Raises:
        UsageError: it is none of them.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: a picture ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return suffix


def draw(model: Model, path: str | os.PathLike[str], *, train: bool = False) -> None:
    """Write the picture in the form that the path's suffix names.

    Raises:
        UsageError: another suffix, or no layout library is installed.
    """
    suffix = check_suffix(path)
    text = picture_text(model, train=train)
    data = text.encode() if suffix == ".dot" else _layout(text, suffix[1:])
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _layout(text: str, form: str) -> bytes:
    try:
        pygraphviz = importlib.import_module("pygraphviz")
    except ImportError:
        message = "needs pygraphviz 2 or newer: pip install 'cnnc[graph]'; -o net.dot works without"
        raise UsageError(f"a picture as .{form} {message}") from None
    graph = pygraphviz.AGraph(string=text)
    try:
        with _quiet():
            drawn: bytes = graph.draw(format=form, prog="dot")
    except (OSError, ValueError) as error:
        # Before 2.0, or built from source: without Graphviz, or without this form of picture.
        raise UsageError(f"Graphviz can't draw a picture as .{form}: {error}") from error
    return drawn


@contextmanager
def _quiet() -> Iterator[None]:
    """The wheel's font library complains on stderr about newer systems' configuration; nobody can do anything."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)


def _short(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
