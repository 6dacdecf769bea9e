"""Files shipped beside the code: the grammar and the models."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """A shipped file or folder: inside the installed package, or at the top of a checkout."""
    installed = _PACKAGE.joinpath("_data", *parts)
    return installed if installed.exists() else _PACKAGE.parent.joinpath(*parts)


def model_aliases() -> dict[str, str]:
    """Other names of shipped models: from a name to the model's own."""
    lines = resource("models", "aliases.txt").read_text(encoding="utf-8").splitlines()
    return {name: model for name, model in (line.split() for line in lines if line and not line.startswith("#"))}
