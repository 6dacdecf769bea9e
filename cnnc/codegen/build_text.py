"""The text of generated modules: several merged into one, and a digest of what each kernel consists of."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cnnc.codegen.launch import Launch, LaunchTable, Module

_IMPORTABLE = {"__future__", "triton"}  # all else would be text that no digest sees


@dataclass(frozen=True)
class Definition:
    """One top-level statement.

    ``names`` are those it binds, ``text`` is as written, with the comments above; ``normal`` is without
    comments, docstring and, for a function, its own name; ``uses`` are the names it reads.
    """

    names: tuple[str, ...]
    text: str
    normal: str
    uses: frozenset[str]


def definitions(source: str) -> Iterator[Definition]:
    """Top-level statements of a module, its docstring left out."""
    tree = ast.parse(source)
    lines = source.splitlines()
    start = 0
    for position, node in enumerate(tree.body):
        end = node.end_lineno or node.lineno
        if not (position == 0 and _is_docstring(node)):
            text = "\n".join(lines[start:end]).strip("\n")
            uses = frozenset(child.id for child in ast.walk(node) if isinstance(child, ast.Name))
            yield Definition(_bound(node), text, _normal(node), uses)
        start = end


def digests(source: str) -> dict[str, str]:
    """For each top-level name a hash of what it means: its text and all it uses, but not what it is called."""
    return _meanings(list(definitions(source)))


def _meanings(items: list[Definition]) -> dict[str, str]:
    known = {name: item for item in items for name in item.names}
    return {name: _digest(name, known) for name in known}


def _digest(name: str, known: Mapping[str, Definition]) -> str:
    reached: dict[str, None] = {}
    waiting = sorted(known[name].uses)
    while waiting:
        current = waiting.pop()
        if current in known and current not in reached:
            reached[current] = None
            waiting.extend(sorted(known[current].uses))
    parts = [known[name].normal] + [f"{item} {known[item].normal}" for item in sorted(reached)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _normal(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef):
        node.name = "_"
        if _is_docstring(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(node)


def _bound(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        foreign = [module for module in modules if module.split(".")[0] not in _IMPORTABLE]
        if foreign:
            raise ValueError(f"a generated module imports {foreign[0]}")
        return tuple(alias.asname or alias.name.split(".")[0] for alias in node.names)
    if isinstance(node, ast.FunctionDef):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return tuple(target.id for target in targets if isinstance(target, ast.Name))


# -- merging --------------------------------------------------------------------------------------------------


def merge(modules: Mapping[str, Module]) -> dict[str, Module]:
    """The same modules over one common source, in which equal functions stand once.

    A function of a later module takes the name under which its equal stands already, or a new one
    where something else has its name; its launch table follows.
    """
    names: dict[str, str] = {}  # by meaning
    imports: dict[str, None] = {}
    bodies: list[str] = []
    tables: dict[str, tuple[LaunchTable, ...]] = {}
    for label, module in modules.items():
        items = list(definitions(module.source))
        meanings = _meanings(items)
        renamed = _new_names(meanings, names)
        for item in items:
            if item.normal.startswith(("import ", "from ")):
                imports[item.text] = None
            elif not item.names or any(meanings[name] not in names for name in item.names):
                bodies.append(_rename(item.text, renamed))
        names.update({at: renamed.get(name, name) for name, at in meanings.items() if at not in names})
        tables[label] = tuple(_renamed_table(table, renamed) for table in module.tables)
    source = _assemble(modules, sorted(imports, key=lambda line: not line.startswith("from __future__")), bodies)
    return {label: replace(module, source=source, tables=tables[label]) for label, module in modules.items()}


def _new_names(meanings: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """What a module's names become, where they change, beside those that stand already."""
    taken = set(names.values()) | meanings.keys()
    renamed: dict[str, str] = {}
    for name, meaning in meanings.items():
        if meaning in names:
            renamed[name] = names[meaning]
        elif name in names.values():
            base, count = re.sub(r"_\d+$", "", name), 2
            while f"{base}_{count}" in taken:
                count += 1
            renamed[name] = f"{base}_{count}"
            taken.add(renamed[name])
    return {old: new for old, new in renamed.items() if old != new}


def _rename(text: str, renamed: Mapping[str, str]) -> str:
    """All names at once, because one's new name may be another's old one; not attributes, not keywords of arguments."""
    if not renamed:
        return text
    old = "|".join(map(re.escape, renamed))
    return re.sub(rf"(?<![\w.])({old})\b(?!=[^=])", lambda found: renamed[found.group(1)], text)


def _renamed_table(table: LaunchTable, renamed: Mapping[str, str]) -> LaunchTable:
    def each(launches: Mapping[str, tuple[Launch, ...]]) -> dict[str, tuple[Launch, ...]]:
        return {
            step: tuple(replace(launch, kernel=renamed.get(launch.kernel, launch.kernel)) for launch in items)
            for step, items in launches.items()
        }

    return replace(table, prepare=each(table.prepare), steps=each(table.steps))


def _assemble(modules: Mapping[str, Module], imports: list[str], bodies: list[str]) -> str:
    plans = [module.plan for module in modules.values()]
    variants = ", ".join(dict.fromkeys(plan.variant for plan in plans))
    title = "".join(char for char in plans[0].model if char.isalnum() or char in " _-.")
    head = f'"""Kernels of {title} in {plans[0].dtype}: {variants}."""'
    parts = [head + "\n\n" + "\n".join(imports), *bodies]
    return "\n\n\n".join(parts) + "\n"
