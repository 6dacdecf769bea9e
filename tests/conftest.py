"""What all tests share: one thread per worker, and no GPU tests where there is no GPU."""

from __future__ import annotations

import importlib.util
import os

import pytest

# Before numpy is imported: workers share the cores already, and sums come out the same everywhere.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def _has_card() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415 - half a second, and only when GPU tests were collected

    return torch.cuda.is_available()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_card():
        config.hook.pytest_deselected(items=gpu)
        items[:] = [item for item in items if item not in gpu]
