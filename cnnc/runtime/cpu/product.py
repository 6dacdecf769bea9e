"""Matrix products over chunks of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.columns import Chunk
from cnnc.runtime.cpu.operand import Run, Scratch, as_rows
from cnnc.runtime.scalars import Scalars

Work = Callable[[], None]


def product(a: Array, b: Array, out: Array) -> Work:
    """``out = a @ b``."""

    def run() -> None:
        np.matmul(a, b, out=out)

    return run


def in_turn(work: Sequence[Work]) -> Run:
    """All of it, one after the other."""

    def run(scalars: Scalars) -> None:
        for item in work:
            item()

    return run


def multiply(chunks: Sequence[Chunk], weights: Array, y: Array, scratch: Scratch) -> list[Work]:
    """``y = windows @ weights`` for ``y`` ``[N, P, Q, K]`` and ``weights`` ``[R*S*C, K]``."""
    largest = max(len(chunk.matrix) for chunk in chunks)
    spare: Array | None = None
    work: list[Work] = []
    for chunk in chunks:
        part = y[chunk.at]
        rows = as_rows(part)
        if rows is not None:
            work.append(_direct(chunk, weights, rows))
            continue
        if spare is None:
            spare = scratch.array((largest, y.shape[3]), y.dtype)
        work.append(_copied(chunk, weights, part, spare[: len(chunk.matrix)]))
    return work


def _direct(chunk: Chunk, weights: Array, rows: Array) -> Work:
    def run() -> None:
        chunk.gather()
        np.matmul(chunk.matrix, weights, out=rows)

    return run


def _copied(chunk: Chunk, weights: Array, part: Array, rows: Array) -> Work:
    """The result has a border, so its rows are not evenly spaced."""
    image = rows.reshape(part.shape)

    def run() -> None:
        chunk.gather()
        np.matmul(chunk.matrix, weights, out=rows)
        np.copyto(part, image)

    return run


def accumulate(chunks: Sequence[Chunk], dy: Array, dw: Array, scratch: Scratch) -> list[Work]:
    """``dw = dy^T @ windows`` summed over chunks, for ``dw`` ``[K, R*S*C]`` and ``dy`` ``[N, P, Q, K]``."""
    partial = scratch.array(dw.shape, dw.dtype) if len(chunks) > 1 else dw
    spare: Array | None = None
    largest = max(len(chunk.matrix) for chunk in chunks)
    work: list[Work] = []
    for position, chunk in enumerate(chunks):
        part = dy[chunk.at]
        rows = as_rows(part)
        copied = rows is None
        if rows is None:
            if spare is None:
                spare = scratch.array((largest, dy.shape[3]), dy.dtype)
            rows = spare[: len(chunk.matrix)]
        work.append(_reduced(chunk, part if copied else None, rows, dw, None if position == 0 else partial))
    return work


def _reduced(chunk: Chunk, part: Array | None, rows: Array, dw: Array, partial: Array | None) -> Work:
    image = rows.reshape(part.shape) if part is not None else None

    def run() -> None:
        chunk.gather()
        if part is not None and image is not None:
            np.copyto(image, part)
        np.matmul(rows.T, chunk.matrix, out=dw if partial is None else partial)
        if partial is not None:
            np.add(dw, partial, out=dw)

    return run
