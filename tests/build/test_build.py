"""Kernels compiled for GPUs that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from build_modules import COPY, HEAD, HELPER, copy_module, launch, module, product_module

from cnnc.codegen import build as build_module
from cnnc.codegen.build import attempt, build
from cnnc.codegen.build_pool import compile_all
from cnnc.codegen.launch import Integer
from cnnc.errors import CompileError
from cnnc.ir.size import Size

TARGETS = ("sm_90", "gfx942")


def test_equal_kernels_are_compiled_once() -> None:
    one = copy_module("loss")
    twice = replace(one, tables=(replace(one.tables[0], steps={"conv1": one.tables[0].steps["conv1"] * 2}),))
    told: list[tuple[int, int]] = []
    built = build({"infer": copy_module(), "loss": twice}, TARGETS, progress=lambda *at: told.append(at[:2]))
    assert len(built.compiled) == 2
    assert len(built.work.keys) == 6
    assert told == [(0, 2), (1, 2), (2, 2)]
    names = [built.file_name(key) for key in built.work.requests]
    assert [name.split("-")[0] for name in names] == ["sm_90/copy", "gfx942/copy"]
    assert [name.rsplit(".")[-1] for name in names] == ["cubin", "hsaco"]
    assert all(item.image.startswith(b"\x7fELF") for item in built.compiled.values())


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_the_report_names_the_matrix_unit(target: str) -> None:
    built = build({"infer": product_module(64, 64, warps=4, stages=2)}, [target])
    (kernel,) = built.compiled.values()
    expected = {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "tcgen05", "gfx942": "mfma"}
    assert kernel.report.matrix == expected[target]
    assert kernel.report.entry == "product"
    assert kernel.report.spills == 0
    assert 16 < kernel.report.registers < 256
    assert 2 * 2 * 64 * 64 <= kernel.report.shared <= 65536


def test_whatever_changes_the_binary_is_another_kernel() -> None:
    base = copy_module()
    wide = replace(base.tables[0].steps["conv1"][0], constants={"BLOCK": 512})
    unaligned = replace(wide, arguments=(*wide.arguments[:2], ("n", Integer(Size(a=250)))))
    long = replace(wide, arguments=(*wide.arguments[:2], ("n", Integer(Size(a=256), 64))))
    launches = [wide, unaligned, long, replace(wide, warps=8), replace(wide, stages=3)]
    built = build({"infer": module(base.source, *launches)}, ["sm_90"])
    assert len(built.compiled) == 5


def test_spills_and_serialised_wgmma_are_refused() -> None:
    with pytest.raises(CompileError) as caught:
        build({"infer": product_module(256, 256, warps=4, stages=2)}, ["sm_90"])
    sentence = str(caught.value)
    assert sentence.startswith("tiny.cnn:3: layer conv1: kernel product for sm_90 (BK=64, BM=256, BN=256")
    assert "spills registers (" in sentence
    assert "serialised wgmma instructions (C7511: insufficient register resources" in sentence
    assert "\n" not in sentence


def test_too_much_shared_memory_is_refused() -> None:
    with pytest.raises(CompileError, match=r"needs \d+ bytes of shared memory, gfx942 has 65536"):
        build({"infer": product_module(128, 128, 128, warps=8, stages=3)}, ["gfx942"])


def test_a_refused_kernel_is_refused_again_from_the_cache() -> None:
    modules = {"infer": product_module(128, 128, 128, warps=8, stages=3)}
    _, first = attempt(modules, ["gfx942"])
    second_build, second = attempt(modules, ["gfx942"])
    assert first == second != {}
    assert second_build.reused == 1


def test_a_kernel_that_does_not_compile_is_named_and_the_rest_goes_on() -> None:
    wrong = COPY.replace("def copy", "def wrong").replace("shifted(", "missing(")
    steps = (launch("wrong", "xyn", {"BLOCK": 64}), launch("copy", "xyn", {"BLOCK": 64}))
    modules = {"infer": module(f"{HEAD}\n{HELPER}\n{wrong}\n{COPY}", *steps)}
    with pytest.raises(CompileError) as caught:
        build(modules, ["sm_90"])
    assert str(caught.value).startswith("tiny.cnn:3: layer conv1: kernel wrong for sm_90 (BLOCK=64, 4 warps")
    assert "does not compile" in str(caught.value)
    assert "missing is not defined" in str(caught.value)
    built, problems = attempt(modules, ["sm_90"])
    assert built.reused == 1
    assert len(problems) == 1


@pytest.mark.parametrize(("names", "constants"), [("xy", {"BLOCK": 64}), ("xny", {"BLOCK": 64}), ("xyn", {})])
def test_a_launch_that_does_not_fit_its_kernel(names: str, constants: dict[str, int]) -> None:
    source = f"{HEAD}\n{HELPER}\n{COPY}"
    with pytest.raises(CompileError, match=r"the kernel takes \(.*\).*, its launch gives \("):
        build({"infer": module(source, launch("copy", names, constants))}, ["sm_90"])


def test_modules_for_their_own_targets() -> None:
    modules = {"a": copy_module(target="sm_90"), "b": copy_module(target="sm_80", block=512)}
    built = build(modules, ["sm_90", "sm_80", "gfx942"])
    assert {(place.label, target) for place, target in built.work.keys} == {
        ("a", "sm_90"),
        ("b", "sm_80"),
        ("a", "gfx942"),
        ("b", "gfx942"),
    }


def test_a_second_build_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build({"infer": copy_module()}, TARGETS)
    monkeypatch.setattr(build_module, "compile_all", lambda *_: pytest.fail("compiled again"))
    second = build({"infer": copy_module()}, TARGETS)
    assert (first.reused, second.reused) == (0, 2)
    assert first.compiled == second.compiled


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "header", "other"])
def test_a_damaged_entry_is_built_again(cache: Path, damage: str) -> None:
    first = build({"infer": copy_module()}, ["sm_90"])
    (path,) = cache.rglob("*.kernel")
    data = path.read_bytes()
    broken = {
        "empty": b"",
        "cut": data[:-100],
        "flipped": data[:-50] + bytes([data[-50] ^ 1]) + data[-49:],
        "header": data.replace(b'"registers": ', b'"registers": "x', 1),
        "other": data.replace(path.stem.encode(), b"0" * 64),
    }
    path.write_bytes(broken[damage])
    second = build({"infer": copy_module()}, ["sm_90"])
    assert second.reused == 0
    assert second.compiled == first.compiled
    assert path.read_bytes() == data
    assert not list(cache.rglob("*.tmp"))


def test_binaries_do_not_depend_on_place_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build({"infer": copy_module()}, TARGETS)
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path / "elsewhere"))
    longer = copy_module()
    second = build(
        {"infer": replace(longer, source=longer.source.replace("@triton", "# more lines\n\n@triton"))}, TARGETS
    )
    assert second.reused == 0
    assert first.compiled == second.compiled


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert len(build({"infer": copy_module()}, ["sm_90"]).compiled) == 1


PROCESS = """
import sys
sys.path[:0] = sys.argv[1:]
from cnnc.codegen.build import build
from build_modules import copy_module, product_module
built = build({"infer": copy_module(), "update": product_module(64, 64)}, ["sm_90"])
print(sorted(len(item.image) for item in built.compiled.values()))
assert "triton" not in sys.modules
"""


def test_two_processes_at_once_share_one_cache(cache: Path) -> None:
    paths = [str(Path(build_module.__file__).parents[2]), str(Path(__file__).parent)]
    command = [sys.executable, "-c", PROCESS, *paths]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert answers[0] == answers[1]
    assert len(list(cache.rglob("*.kernel"))) == 2
    assert not list(cache.rglob("*.tmp"))


FATAL = """

class Fatal:
    @property
    def arg_names(self):
        import os

        os._exit(3)


dies = Fatal()
"""


def test_a_dead_worker_takes_one_kernel_with_it() -> None:
    source = copy_module().source + FATAL
    work = attempt({"infer": copy_module()}, ["sm_90"])[0].work
    (request,) = work.requests.values()
    outcomes = dict(compile_all(source, [replace(request, kernel="dies"), request], 1))
    assert "ended with status 3" in str(outcomes[replace(request, kernel="dies")])
    assert not isinstance(outcomes[request], str)


def test_workers_end_when_nobody_waits() -> None:
    (request,) = attempt({"infer": copy_module()}, ["sm_90"])[0].work.requests.values()
    before = threading.active_count()
    results = compile_all(copy_module().source, [replace(request, warps=1 << i) for i in range(4)], 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
