"""What the compilers' reports mean, and the kernels that make them."""

from __future__ import annotations

import pytest
from build_modules import HEAD, launch, module

from cnnc.codegen.build import attempt
from cnnc.codegen.build_worker import amd_report, explain, nvidia_report

LOG = """\
ptxas-blackwell info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are serialized due to {reason} in the function 'f'
ptxas-blackwell info    : Compiling entry function 'f' for 'sm_90a'
    8 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas-blackwell info    : Used 128 registers, used 1 barriers
"""  # noqa: E501

# A weight gradient whose epilogue selects: ptxas reads the accumulators inside the loop's last stage.
TRANSPOSED = """\

@triton.jit
def transposed(x, w, y, n, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(n):
        depth = start * BK + tl.arange(0, BK)
        a = tl.load(x + depth[:, None] * 512 + row[None, :], mask=(depth < n)[:, None], other=0.0)
        b = tl.load(w + depth[:, None] * 512 + column[None, :], mask=(depth < n)[:, None], other=0.0)
        total = tl.dot(tl.trans(a), b, total)
    at = row[:, None] * 512 + column[None, :]
    live = (row < n)[:, None] & (column < 512)[None, :]
    chosen = tl.load(w + at, mask=live, other=0.0).to(tl.float32)
    tl.store(y + at, tl.where(chosen <= 0.0, 0.0, total).to(y.dtype.element_ty), mask=live)
"""


def test_serialised_wgmma() -> None:
    report = nvidia_report(LOG.format(reason="non wgmma instructions defining accumulator registers"))
    assert report["serialized"] == "C7515: non wgmma instructions defining accumulator registers"
    assert (report["registers"], report["spills"]) == (128, 32)


def test_a_wait_that_ptxas_adds_is_no_fault() -> None:
    line, rest = LOG.split("\n", 1)
    added = "ptxas info : (C7517) warpgroup.wait is injected in around line 272 by compiler in function 'f'"
    assert nvidia_report(f"{added}\n{rest}")["serialized"] == ""
    assert nvidia_report(f"{line.replace('the function', 'function')}\n{rest}")["serialized"] != ""


def test_no_report_is_an_error() -> None:
    with pytest.raises(ValueError, match="ptxas gave no report"):
        nvidia_report("")


def test_amd() -> None:
    text = ".agpr_count:     256\n.sgpr_spill_count: 1\n.vgpr_count:     444\n.vgpr_spill_count: 3\n"
    assert amd_report(text) == {"registers": 444, "spills": 12, "serialized": ""}


def test_ptxas_errors_come_without_the_assembly() -> None:
    text = "`ptxas` failed\nptxas fatal   : (C7602) Insufficient registers (64)\nptxas fatal   : Ptx assembly aborted "
    assert explain(RuntimeError(text + "due to errors\n// a thousand lines")) == "(C7602) Insufficient registers (64)"
    assert len(explain(RuntimeError("x" * 100_000))) < 3000


def test_a_kernel_serialised_by_its_epilogue() -> None:
    one = launch("transposed", "xwyn", {"BM": 64, "BN": 128, "BK": 64}, stages=3)
    binaries, problems = attempt({"infer": module(f"{HEAD}\n{TRANSPOSED}", one)}, ["sm_90"])
    ((fault,),) = problems.values()
    assert fault.startswith("has serialised wgmma instructions (C7514: non wgmma instructions reading accumulator")
    assert [kernel.report.spills for kernel in binaries.compiled.values()] == [0]
