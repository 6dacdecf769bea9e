"""README shows a real kernel."""

from pathlib import Path

import cnnc

ROOT = Path(__file__).parent.parent


def test_the_kernel_is_the_one_that_is_generated():
    source = cnnc.compile(ROOT / "models" / "lenet5.cnn", device="cpu").kernels
    start = source.index("@triton.jit\ndef linear_fprop_bias(")
    kernel = source[start : source.index("\n\n\n", start)]
    shown = "\n".join(("    " + line).rstrip() for line in kernel.splitlines())
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")
