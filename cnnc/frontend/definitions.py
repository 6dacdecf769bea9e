"""Default lines, blocks and used files: what a file defines for the statements behind it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.blocks import Block, Blocks
from cnnc.frontend.names import Scope
from cnnc.frontend.statements import Defaults
from cnnc.frontend.substitute import BadValue
from cnnc.frontend.used_files import UsedFiles
from cnnc.frontend.walk import Walk


class Definitions:
    """Puts definitions in force; reads used files."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.diagnostics = walk.diagnostics
        self.used_files = UsedFiles(walk.diagnostics)
        self._files: dict[Path, dict[str, Block]] = {}
        self._open: list[Path] = []

    def default(self, item: ast.Default) -> None:
        """A default line, its parameters replaced."""
        kind = item.kind.text
        try:
            options = self.walk.substitution.options(item.options, vocabulary.head_of_default(kind))
        except BadValue:
            self.walk.statements.defaults.broken.add(kind)
            return
        self.walk.statements.default(replace(item, options=options))

    def add(self, item: ast.Block | ast.Use, blocks: Blocks) -> None:
        """A block or a ``use`` line of the program itself."""
        if isinstance(item, ast.Block):
            names = self.walk.names
            blocks.define(item, self.walk.statements.defaults, names.root, names.order)
        else:
            self._use(item, blocks)

    def _use(self, item: ast.Use, blocks: Blocks) -> None:
        path = self.used_files.locate(item)
        found = self._blocks_of(path, item) if path else None
        if found is None:
            blocks.lenient = True
        else:
            blocks.take(found, item)

    def _blocks_of(self, path: Path, use: ast.Use) -> dict[str, Block] | None:
        """The blocks of a file; None after noting what is wrong with it."""
        key = Path(os.path.realpath(path))
        own = Path(os.path.realpath(use.span.source.name))
        around = self._open or [own]
        if key in around:
            chain = [file.name for file in (*around[around.index(key) :], key)]
            self.diagnostics.add(use.span, f"`{use.path}` uses itself", " uses ".join(chain))
            return None
        if key not in self._files:
            program = self.used_files.program(path, use)
            if program is None:
                return None
            self._open = [*around, key]
            self._files[key] = self._read(program, use)
            self._open = list(around) if around != [own] else []
        return self._files[key]

    def _read(self, program: ast.Program, use: ast.Use) -> dict[str, Block]:
        """A used file's definitions, in surroundings of its own; nothing else may stand in it."""
        blocks = Blocks(program.items, self.diagnostics)
        other = [item for item in program.items if not isinstance(item, _ALLOWED)]
        if other:
            message = f"`{use.path}` has more than blocks and their defaults: line {other[0].span.line}"
            self.diagnostics.add(use.span, message, "a used file holds only `block`, `use` and default lines")
        before, self.walk.statements.defaults = self.walk.statements.defaults, Defaults()
        scope = Scope()
        self._define(program.items, blocks, scope)
        self.walk.statements.defaults = before
        return blocks.own()

    def _define(self, items: Sequence[ast.Item], blocks: Blocks, scope: Scope) -> None:
        for item in items:
            if isinstance(item, ast.Default):
                self.default(item)
            elif isinstance(item, ast.Block):
                blocks.define(item, self.walk.statements.defaults, scope, 0)
            elif isinstance(item, ast.Use):
                self._use(item, blocks)


_ALLOWED = (ast.ModelName, ast.Default, ast.Use, ast.Block, ast.Broken)
