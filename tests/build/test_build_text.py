"""Modules merged into one source, and what a kernel's digest depends on."""

from __future__ import annotations

import pytest
from build_modules import COPY, HEAD, HELPER, PRODUCT, copy_module, copy_source, launch, module

from cnnc.codegen.build_text import digests, merge

BASE = copy_source()


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace('    """y = x + 1."""\n', '    """Another docstring."""\n'),
        BASE.replace('    """y = x + 1."""\n', ""),
        BASE.replace("  # one element each", ""),
        BASE.replace("@triton.jit\ndef copy", "# a comment\n\n\n@triton.jit\ndef copy"),
        BASE.replace("# Every element gets this much.", "# Something else.\n# On two lines."),
        f"{BASE}\n{PRODUCT}",
        BASE.replace("x + index", "(x +  index)"),
    ],
)
def test_what_does_not_matter(text: str) -> None:
    assert digests(text)["copy"] == digests(BASE)["copy"]


@pytest.mark.parametrize(
    "text",
    [
        copy_source("2.0"),  # a constant two calls away
        BASE.replace("value + OFFSET", "value - OFFSET"),
        BASE.replace("mask=inside)", "mask=inside, other=0)"),
    ],
)
def test_what_does(text: str) -> None:
    assert digests(text)["copy"] != digests(BASE)["copy"]


def test_equal_functions_stand_once() -> None:
    merged = merge({"infer": copy_module(), "loss": copy_module("loss")})
    assert merged["infer"].source == merged["loss"].source
    assert merged["infer"].source.count("def copy") == 1
    assert merged["infer"].source.startswith('"""Kernels of tiny in bfloat16: infer, loss."""\n\nimport triton\n')


def test_equal_functions_under_two_names_get_one() -> None:
    renamed = COPY.replace("def copy", "def copy_7")
    other = module(f"{HEAD}\n{HELPER}\n{renamed}", launch("copy_7", "xyn", {"BLOCK": 64}), variant="loss")
    merged = merge({"infer": copy_module(), "loss": other})
    assert "copy_7" not in merged["loss"].source
    assert merged["loss"].tables[0].steps["conv1"][0].kernel == "copy"


def test_one_name_with_two_meanings_becomes_two() -> None:
    merged = merge({"infer": copy_module(), "loss": copy_module("loss", offset="2.0")})
    assert merged["infer"].tables[0].steps["conv1"][0].kernel == "copy"
    assert merged["loss"].tables[0].steps["conv1"][0].kernel == "copy_2"
    meanings = digests(merged["loss"].source)
    assert meanings["copy"] == digests(BASE)["copy"]
    assert meanings["copy_2"] != meanings["copy"]
    assert "shifted_2(tl.load" in merged["loss"].source


def test_names_that_change_places() -> None:
    other = COPY.replace("shifted(", "abs(").replace("def copy", "def other")
    infer = module(f"{HEAD}\n{HELPER}\n{COPY}\n{other}", launch("copy", "xyn", {}), launch("other", "xyn", {}))
    swapped = infer.source.replace("def copy", "def swap").replace("def other", "def copy").replace("swap", "other")
    loss = module(swapped, launch("other", "xyn", {}), launch("copy", "xyn", {}), variant="loss")
    merged = merge({"infer": infer, "loss": loss})
    assert merged["loss"].tables == merged["infer"].tables
    assert merged["loss"].source.count("@triton.jit") == 3


def test_a_module_must_be_complete() -> None:
    with pytest.raises(ValueError, match="imports cnnc"):
        digests("from cnnc.codegen import helpers\n" + BASE)
