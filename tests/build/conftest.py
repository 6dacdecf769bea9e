from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of one's own; the folder that holds compiled kernels."""
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"
