"""Where kernels run: in Triton's interpreter, and on a card where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Generated modules go to a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("cache")
        patch.setenv("CNNC_CACHE", str(folder))
        yield folder


@pytest.fixture(params=["interpret", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """``interpret``, or ``cuda`` (deselected without a card)."""
    return str(request.param)


@pytest.fixture
def target(device: str) -> str:
    """The target whose tiles fit the device."""
    return "interpret" if device == "interpret" else "sm_90"
