"""One kernel while it is written: its parameters, constants and body, and the launch that they make."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cnnc.codegen.launch import Argument, Descriptor, Integer, Launch, Pointer, Programs, Runtime
from cnnc.ir.plan import Buffer
from cnnc.ir.size import Size

Constant = int | float | bool | str

BATCH = Size(a=1)


@dataclass
class Kernel:
    """A kernel's text in the making. Parameters are in order of declaration, pointers and descriptors first."""

    name: str
    summary: str
    pointers: dict[str, Pointer | Descriptor] = field(default_factory=dict)
    numbers: dict[str, Argument] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    depth: int = 0  # of the loops that lines are written in

    def pointer(self, name: str, buffer: Buffer) -> str:
        """Declare a pointer parameter; gives its name, with a counter if the name is taken."""
        unique = self._unique(name)
        self.pointers[unique] = Pointer(buffer.id)
        return unique

    def descriptor(self, name: str, descriptor: Descriptor) -> str:
        """Declare a tensor descriptor; gives its name, with a counter if the name is taken."""
        unique = self._unique(name)
        self.pointers[unique] = descriptor
        return unique

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self.pointers:
            count += 1
            unique = f"{name}{count}"
        return unique

    def integer(self, name: str, value: Size | int, bits: int = 32, *, hint: bool = True) -> str:
        """Declare a runtime integer; ``hint`` where its divisibility makes addresses aligned."""
        size = Size(c=value) if isinstance(value, int) else value
        self.numbers[name] = Integer(size, bits, hint)
        return name

    def integers(self, **values: int) -> None:
        """Declare several runtime integers that do not depend on N: channels and strides."""
        for name, value in values.items():
            self.integer(name, value)

    def counts(self, **values: int) -> None:
        """Declare several runtime integers that no address is a multiple of: image sizes, splits."""
        for name, value in values.items():
            self.integer(name, value, hint=False)

    def batch(self) -> None:
        """Declare the batch size N."""
        self.integer("N", BATCH, hint=False)

    def runtime(self, name: str) -> str:
        """Declare a number given at each run."""
        self.numbers[name] = Runtime(name)
        return name

    def constant(self, **values: Constant) -> None:
        """Declare compile-time constants."""
        self.constants.update(values)

    def write(self, text: str) -> None:
        """Add lines to the body, in the loops that are open."""
        self.body.append(textwrap.indent(textwrap.dedent(text).strip("\n"), "    " * self.depth))

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A loop or condition around what is written inside."""
        self.write(head)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def text(self, name: str) -> str:
        """The kernel as Python source under this name."""
        rows = [", ".join(self.pointers), ", ".join(self.numbers)]
        rows.append(", ".join(f"{constant}: tl.constexpr" for constant in self.constants))
        wrapped = [line for row in rows if row for line in _wrap(row + ",")]
        doc = "\n".join(textwrap.wrap(self.summary, 110))
        parts = ["@triton.jit", f"def {name}(", *(f"    {line}" for line in wrapped), "):"]
        parts.append(textwrap.indent(f'"""{doc}"""', "    "))
        parts.extend(textwrap.indent(block, "    ") for block in self.body)
        return "\n".join(parts) + "\n"

    def launch(
        self,
        name: str,
        grid: tuple[Programs, ...],
        warps: int,
        stages: int,
        step: str,
        layers: tuple[str, ...],
        nbytes: Size,
        flops: Size,
    ) -> Launch:
        """The launch of this kernel under the name its text was given."""
        arguments = (*self.pointers.items(), *self.numbers.items())
        return Launch(name, arguments, dict(self.constants), grid, warps, stages, step, layers, nbytes, flops)


def _wrap(parameters: str) -> list[str]:
    """Lines of parameters, broken between them and not before an annotation."""
    joined = parameters.replace(": ", ":\0")
    return [line.replace("\0", " ") for line in textwrap.wrap(joined, 112, break_long_words=False)]


def fixed(count: int) -> Programs:
    """A number of programs that does not depend on N."""
    return Programs(Size(c=count))
