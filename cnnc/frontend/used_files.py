"""Files that a program uses: where they may lie, and that they are read once."""

from __future__ import annotations

import os
from pathlib import Path

from cnnc.errors import UsageError
from cnnc.frontend import ast
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.parser import parse_collecting
from cnnc.frontend.reading import read_source
from cnnc.resources import resource

MAX_FILES = 20


class UsedFiles:
    """Reads the files of ``use`` lines."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.programs: dict[Path, ast.Program | None] = {}

    def locate(self, use: ast.Use) -> Path | None:
        """The file that a ``use`` line means: beside its own file, else an installed model."""
        reason = _bad_path(use.path)
        if reason:
            self.diagnostics.add(use.span, reason, 'for example `use "blocks.cnn"`, a file beside this one')
            return None
        own = Path(use.span.source.name)
        folders = [own.parent] if _is_file(own) else []
        for folder in (*folders, resource("models")):
            found = folder / use.path
            if _is_file(found):
                # A link must not lead out of the folder either.
                if Path(os.path.realpath(found)).is_relative_to(os.path.realpath(folder)):
                    return found
                self.diagnostics.add(use.span, f"`{use.path}` leads out of its folder")
                return None
        where = "beside this file or " if folders else ""
        self.diagnostics.add(use.span, f"no file `{use.path}` {where}among the installed models")
        return None

    def program(self, path: Path, use: ast.Use) -> ast.Program | None:
        """The syntax tree of a file; None after noting why there is none."""
        key = Path(os.path.realpath(path))
        if key not in self.programs:
            if len(self.programs) >= MAX_FILES:
                self.diagnostics.add(use.span, f"the program uses more than {MAX_FILES} files")
                self.diagnostics.raise_any()
            self.programs[key] = self._parse(path, use)
        return self.programs[key]

    def _parse(self, path: Path, use: ast.Use) -> ast.Program | None:
        try:
            return parse_collecting(read_source(path), self.diagnostics)
        except UsageError as error:
            self.diagnostics.add(use.span, str(error))
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _bad_path(path: str) -> str | None:
    """Why a path may not stand behind ``use``, if so."""
    parts = path.replace("\\", "/").split("/")
    if not path.endswith(".cnn") or "\0" in path:
        return f"`{path}` is no program: its name must end in .cnn"
    if Path(path).is_absolute() or parts[0] == "" or ":" in parts[0]:
        return f"`{path}` is an absolute path"
    return "a used file lies in the same folder or below it, without `..`" if ".." in parts else None
