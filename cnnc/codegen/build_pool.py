"""Worker processes that compile kernels side by side, each alive for many of them."""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from cnnc.codegen.build_cache import Compiled, Report
from cnnc.codegen.build_requests import Request
from cnnc.codegen.build_targets import TARGETS
from cnnc.env import compiler_environment

# The worker is run by its path, not imported: importing cnnc would pull in what it does not need.
_START = "import runpy, sys; sys.path[:] = sys.argv[3:]; runpy.run_path(sys.argv[2], run_name='__main__')"
_SCRIPT = Path(__file__).with_name("build_worker.py")

Outcome = Compiled | str  # a string says why the kernel does not compile


class Worker:
    """One process; ``compile`` blocks until it answers."""

    def __init__(self, folder: Path, number: int) -> None:
        self._log = (folder / f"worker{number}.log").open("w+b")
        cache = folder / f"triton{number}"
        command = [sys.executable, "-c", _START, str(cache), str(_SCRIPT), *sys.path]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=compiler_environment(),
            text=True,
            encoding="utf-8",
        )

    def compile(self, module: Path, request: Request) -> Outcome:
        """The compiled kernel, or why there is none; EOFError if the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(_message(module, request)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise EOFError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            return str(answer["error"])
        return Compiled(base64.b64decode(answer["image"]), Report(**answer["report"]))

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                _close(pipe)

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"the compiler process ended with status {status}" + (f": {lines[-1]}" if lines else "")


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # what was left to write has no reader any more
        return


def _message(module: Path, request: Request) -> dict[str, object]:
    target = TARGETS[request.target]
    return {
        "module": str(module),
        "kernel": request.kernel,
        "backend": target.backend,
        "arch": target.arch,
        "warp_size": target.warp_size,
        "signature": request.signature,
        "divisible": request.divisible,
        "constants": request.constants,
        "warps": request.warps,
        "stages": request.stages,
    }


def compile_all(source: str, requests: Iterable[Request], workers: int) -> Iterator[tuple[Request, Outcome]]:
    """Compile kernels of one module's source, in the order in which they get done.

    A kernel that kills its worker is reported like one that does not compile; the others go on in
    a new process.
    """
    waiting = list(requests)
    with tempfile.TemporaryDirectory(prefix="cnnc-") as name:
        folder = Path(name)
        module = folder / "kernels.py"
        module.write_text(source, encoding="utf-8")
        idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        started: list[Worker] = []
        stopping = threading.Event()

        def run(request: Request) -> Outcome:
            worker = idle.get()
            try:
                return worker.compile(module, request)
            except EOFError as error:
                worker.close()
                if not stopping.is_set():
                    worker = Worker(folder, len(started))
                    started.append(worker)
                return str(error)
            finally:
                idle.put(worker)

        count = min(workers, len(waiting))
        threads = ThreadPoolExecutor(max(1, count))
        try:
            for number in range(count):
                started.append(Worker(folder, number))
                idle.put(started[-1])
            futures = {threads.submit(run, request): request for request in waiting}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stopping.set()
            for worker in started:
                worker.close()
            threads.shutdown(cancel_futures=True)
            for worker in started:  # one may have been started in between
                worker.close()
