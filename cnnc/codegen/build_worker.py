"""The process that compiles kernels: the one module of the build that imports Triton.

Run as a script, it reads one JSON object per line from standard input and answers with one per line
on standard output until its input ends. It imports nothing of cnnc, so that it starts at once.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TextIO

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import cache

Message = dict[str, Any]

MATRIX_INSTRUCTIONS = (
    ("wgmma", "wgmma.mma_async"),
    ("tcgen05", "tcgen05.mma"),
    ("mma.sync", "mma.sync"),
    ("mfma", "v_mfma"),
)
DESCRIPTOR_LOAD = re.compile(r"cp\.async\.bulk\.tensor\.\dd\.shared\S*\.global")
MAX_ERROR = 2000
MAX_REGISTERS = 255  # per thread, since compute capability 3.5
REGISTER_FILE = 65536  # per multiprocessor


def configure(folder: str) -> None:
    """Triton's settings for this process: everything compiled anew, ptxas's report kept, binaries without paths."""
    knobs.runtime.interpret = False
    knobs.cache.dir = folder
    knobs.compilation.always_compile = True
    knobs.compilation.disable_line_info = True
    knobs.nvidia.dump_ptxas_log = True
    if hasattr(knobs.language, "default_fp_fusion"):
        knobs.language.default_fp_fusion = True
    # Triton names its cache folders by a hash over its whole library, which takes longer than a kernel.
    cache.triton_key = lambda: str(triton.__version__)


def load(path: str) -> ModuleType:
    """The generated module at a path; a real file, because Triton reads the source of its kernels."""
    spec = importlib.util.spec_from_file_location("cnnc_kernels", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_kernel(module: ModuleType, request: Message) -> Message:
    """Compile one kernel: ``report`` and ``image`` (base64), or ``error``.

    Where ptxas spills a few bytes to stay within fewer registers than a thread may have, it is told
    how many that is.
    """
    answer = _compile_once(module, request, {})
    report = answer.get("report", {})
    most = min(MAX_REGISTERS, REGISTER_FILE // (32 * request["warps"]))
    if request["backend"] == "cuda" and report.get("spills") and report["registers"] < most:
        again = _compile_once(module, request, {"maxnreg": most})
        if "report" in again and again["report"]["spills"] < report["spills"]:
            return again
    return answer


def _compile_once(module: ModuleType, request: Message, more: Message) -> Message:
    log = io.StringIO()
    options = {"num_warps": request["warps"], "num_stages": request["stages"], "enable_fp_fusion": True, **more}
    try:
        with contextlib.redirect_stdout(log):
            kernel = triton.compile(_source(module, request), target=_target(request), options=options)
    except Exception as error:  # any failure of the compiler is an answer about the kernel
        return {"error": explain(error)}
    image = kernel.asm["cubin" if request["backend"] == "cuda" else "hsaco"]
    report = nvidia_report(log.getvalue()) if request["backend"] == "cuda" else amd_report(kernel.asm["amdgcn"])
    report["entry"] = kernel.metadata.name
    report["warps"] = kernel.metadata.num_warps
    report["shared"] = kernel.metadata.shared
    report["scratch"] = getattr(kernel.metadata, "global_scratch_size", 0) or 0
    assembly = kernel.asm.get("ptx") or kernel.asm.get("amdgcn", "")
    report["matrix"] = matrix_instruction(assembly)
    report["loads"] = len(DESCRIPTOR_LOAD.findall(assembly))
    report["maps"] = [tensor_map(meta) for meta in getattr(kernel.metadata, "tensordesc_meta", None) or ()]
    return {"report": report, "image": base64.b64encode(image).decode("ascii")}


def _source(module: ModuleType, request: Message) -> Any:
    kernel = getattr(module, request["kernel"])
    types = dict(request["signature"])
    constants = dict(request["constants"])
    names: Sequence[str] = kernel.arg_names
    if set(names) != types.keys() | constants.keys():
        raise TypeError(f"the kernel takes ({', '.join(names)}), its launch gives ({', '.join([*types, *constants])})")
    given = [name for name in names if name in types]
    if given != list(types):
        raise TypeError(f"the kernel takes ({', '.join(given)}) in this order, its launch gives ({', '.join(types)})")
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in request["divisible"]}
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)


def _target(request: Message) -> Any:
    return GPUTarget(request["backend"], request["arch"], request["warp_size"])


def explain(error: Exception) -> str:
    """What the compiler said, without the generated assembly that it may quote."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:  # Triton wraps what went wrong once per call of a helper
        chain.append(str(cause) or type(cause).__name__)
        cause = cause.__cause__
    text = "\n".join(dict.fromkeys(reversed(chain)))
    fatal = re.findall(r"^ptxas\S* (?:fatal|error)\s*:\s*(.+)$", text, re.MULTILINE)
    text = "\n".join(line for line in fatal if "aborted due to errors" not in line) or text
    return text if len(text) <= MAX_ERROR else text[:MAX_ERROR] + " ..."


def nvidia_report(log: str) -> Message:
    """Registers, spilled bytes and serialised wgmma out of what ``ptxas -v`` says."""
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.search(r"Used (\d+) registers", log)
    if spills is None or registers is None:
        raise ValueError("ptxas gave no report")
    serialized = re.search(r"\((C\d+)\)[^\n]*wgmma[^\n]*serialized due to (.+?)(?: in (?:the )?function|\n|$)", log)
    return {
        "registers": int(registers.group(1)),
        "spills": int(spills.group(1)) + int(spills.group(2)),
        "serialized": f"{serialized.group(1)}: {serialized.group(2)}" if serialized else "",
    }


def amd_report(assembly: str) -> Message:
    """The same out of the metadata of an AMD kernel; spilled registers are counted as four bytes each.

    Scalar registers spill into lanes of vector registers, which moves nothing through memory.
    """
    counts = {name: int(value) for name, value in re.findall(r"\.(\w+_count): +(\d+)", assembly)}
    return {
        "registers": counts["vgpr_count"],
        "spills": 4 * counts["vgpr_spill_count"],
        "serialized": "",
    }


def matrix_instruction(assembly: str) -> str:
    """Which matrix unit the kernel uses, if any: ``wgmma``, ``tcgen05``, ``mma.sync``, ``mfma``."""
    return next((name for name, text in MATRIX_INSTRUCTIONS if text in assembly), "")


def tensor_map(meta: Message) -> Message:
    """What ``cuTensorMapEncodeTiled`` needs besides address, shape and strides, in Triton's codes."""
    box = [int(extent) for extent in meta["block_size"]]
    return {"box": box, **{name: int(meta[name]) for name in ("swizzle", "elem_size", "elem_type")}}


def serve(requests: TextIO, folder: str) -> None:
    """Answer requests until their end. Answers go to what standard output was; stray prints go to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    configure(folder)
    modules: dict[str, ModuleType] = {}
    for line in requests:
        request = json.loads(line)
        path = request["module"]
        try:
            modules[path] = modules.get(path) or load(path)
            answer = compile_kernel(modules[path], request)
        except Exception as error:  # the module may fail in any way; the parent names the kernel
            answer = {"error": explain(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.argv[1])
