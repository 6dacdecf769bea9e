"""Showing training: a progress bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from cnnc.train.loop import Epoch, Progress


class ProgressDisplay:
    """A watcher that writes to a console; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._epochs = self._epoch = 0
        self._task = TaskID(0)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, epochs: int, images: int) -> None:
        self._epochs = epochs
        self._task = self._bar.add_task("", total=images, epoch=f"?/{epochs}", numbers="")

    def batch(self, progress: Progress) -> None:
        numbers = _numbers(progress.loss, progress.accuracy, progress.images_per_second)
        if progress.epoch != self._epoch:
            # Else this epoch's remaining time is estimated from the last one's count.
            self._bar.reset(self._task)
            self._epoch = progress.epoch
        epoch = f"{progress.epoch}/{self._epochs}"
        self._bar.update(self._task, completed=progress.images, epoch=epoch, numbers=numbers)

    def epoch(self, result: Epoch) -> None:
        numbers = _numbers(result.loss, result.accuracy, result.images_per_second)
        width = len(str(self._epochs))
        line = f"epoch {result.epoch:{width}}/{self._epochs}  {numbers}  validation {result.validation_accuracy:.4f}"
        self._console.print(line, highlight=False, soft_wrap=True)


def _numbers(loss: float, accuracy: float, images_per_second: float) -> str:
    digits = 0 if images_per_second >= 10 else 2
    return f"loss {loss:.4f}  accuracy {accuracy:.4f}  {images_per_second:,.{digits}f} images/s"
