"""The kernels of one module: each text once, under a readable name."""

from __future__ import annotations

from collections.abc import Iterable

from cnnc.codegen.helpers import HELPERS
from cnnc.codegen.kernel import Kernel

PLACEHOLDER = "KERNEL_NAME"


class KernelTexts:
    """Collects kernels; equal texts share one name, different texts never do."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._taken: set[str] = set(HELPERS)
        self._helpers: list[str] = []

    def add(self, kernel: Kernel) -> str:
        """The name under which this kernel's text stands in the module."""
        text = kernel.text(PLACEHOLDER)
        if text not in self._names:
            name, count = kernel.name, 1
            while name in self._taken:
                count += 1
                name = f"{kernel.name}_{count}"
            self._taken.add(name)
            self._names[text] = name
            self._helpers.extend(helper for helper in kernel.helpers if helper not in self._helpers)
        return self._names[text]

    def source(self, summary: Iterable[str]) -> str:
        """The module's source: docstring, imports, helpers, kernels in order of first use."""
        head = ['"""' + "\n".join(summary), '"""', "", "import triton", "import triton.language as tl", ""]
        blocks = [HELPERS[name] for name in self._helpers]
        blocks.extend(text.replace(PLACEHOLDER, name, 1) for text, name in self._names.items())
        return "\n".join(head) + "".join(f"\n\n{block.strip()}\n" for block in blocks)
