"""A build killed at any moment leaves a cache that the next build can use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from build_modules import copy_module

from cnnc.codegen import build as build_module
from cnnc.codegen.build import build

VARIANTS = 6
PROCESS = """
import sys
sys.path[:0] = sys.argv[1:]
from test_build_kill import modules
from cnnc.codegen.build import build
build(modules(), ["sm_90"])
"""


def modules():
    """Kernels that differ in a constant: several compilations, several entries."""
    result = {}
    for number, variant in enumerate(("infer", "forward", "loss", "vjp", "update", "cast")[:VARIANTS]):
        module = copy_module()
        source = module.source.replace("tl.constexpr(1.0)", f"tl.constexpr({number + 1}.0)")
        result[variant] = replace(module, source=source)
    return result


@pytest.mark.parametrize("entries", [0, 1, 3])
def test_killed_builds_leave_a_usable_cache(cache: Path, entries: int) -> None:
    paths = [str(Path(build_module.__file__).parents[2]), str(Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", PROCESS, *paths], start_new_session=True, env=os.environ)
    deadline = time.monotonic() + 60
    while len(list(cache.rglob("*.kernel"))) < entries and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The whole group at once, as when a machine goes down: no worker may tidy up.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(list(cache.rglob("*.kernel")))
    built = build(modules(), ["sm_90"])
    assert built.reused == kept
    assert len(built.compiled) == VARIANTS
    assert build(modules(), ["sm_90"]).reused == VARIANTS
