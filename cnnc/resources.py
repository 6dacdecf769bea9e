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
    aliases: dict[str, str] = {}
    for line in resource("models", "aliases.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, model = line.split()
            aliases[name] = model
    return aliases
