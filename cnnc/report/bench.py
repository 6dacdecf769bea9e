"""Times on this machine: text to graph, text to plans, and a run beside other software's. Medians; nothing asserted."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cnnc.errors import CnnError
from cnnc.frontend import load
from cnnc.ir.model import Model
from cnnc.ir.plan import Space
from cnnc.passes.pipelines import VARIANTS, compile_plan
from cnnc.report.layers import layers_of
from cnnc.report.torch_peer import TorchPeer, import_torch
from cnnc.runtime.arrays import Array
from cnnc.runtime.device import open_device
from cnnc.runtime.init import initial_values
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.session import Session
from cnnc.source import Source

DTYPE = "float32"
FEWEST, MOST = 3, 200  # runs of one measurement
ENOUGH = 7  # runs that do where they take long
SHORT, LONG = 0.5, 5.0  # seconds: below the first more runs than enough are made, beyond the second fewer
SAME = 1e-4  # relative difference of two outputs above which their times can't be compared
PACKAGES = ("cnnc", "numpy", "triton", "torch", "lark", "networkx")


@dataclass(frozen=True)
class Peer:
    """One image through our cpu runtime and through other software, run in turn; median seconds.

    ``theirs`` is the better of one thread and of as many as the software takes by itself, ``threads`` which it was.
    """

    name: str
    ours: float
    theirs: float
    threads: int

    @property
    def ratio(self) -> float:
        """Their time over ours: above 1 we are faster."""
        return self.theirs / self.ours


@dataclass(frozen=True)
class Measured:
    """One program; median seconds."""

    name: str
    layers: int
    text_to_graph: float
    text_to_plan: float
    variants: tuple[str, ...]
    peers: tuple[Peer, ...] = ()

    def json(self) -> dict[str, Any]:
        """As plain data, in milliseconds."""
        peers = {
            peer.name: {
                "batch": 1,
                "cnnc_ms": peer.ours * 1e3,
                f"{peer.name}_ms": peer.theirs * 1e3,
                "ratio": peer.ratio,
                "threads": peer.threads,
            }
            for peer in self.peers
        }
        return {
            "name": self.name,
            "layers": self.layers,
            "text_to_graph_ms": self.text_to_graph * 1e3,
            "text_to_plan_ms": self.text_to_plan * 1e3,
            "variants": list(self.variants),
            "forward": peers,
        }


def measure(source: Source, *, train: bool = False, against: Sequence[str] = ()) -> Measured:
    """Time one program.

    Raises:
        CnnError: the program is wrong, a peer is missing, or its output differs from ours.
    """
    model = load(source)
    variants = (*VARIANTS, "update") if train else ("infer",)

    def to_plan() -> None:
        fresh = load(source)
        for variant in variants:
            compile_plan(fresh, variant, "cpu", DTYPE)

    graph, plan = (_medians([work])[0] for work in (lambda: load(source), to_plan))
    peers = tuple(_compare(model) for _ in against)
    return Measured(model.name, len(layers_of(model, train=train)), graph, plan, variants, peers)


def check_peers(names: Iterable[str]) -> None:
    """Whether what ``--against`` names is installed.

    Raises:
        UsageError: it is not.
    """
    if "torch" in names:
        import_torch()


def machine() -> dict[str, Any]:
    """Date, machine and versions, without which a time says nothing."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }


def report_json(measured: Iterable[Measured]) -> dict[str, Any]:
    """Everything as plain data."""
    return {**machine(), "programs": [item.json() for item in measured]}


def print_report(measured: Sequence[Measured], console: Console) -> None:
    """A table of milliseconds."""
    table = Table()
    table.add_column("program")
    for heading in ("layers", "text to graph, ms", "text to plan, ms"):
        table.add_column(heading, justify="right")
    compared = [peer.name for item in measured[:1] for peer in item.peers]
    for name in compared:
        for heading in ("one image, ms", f"{name}, ms", f"{name} / cnnc"):
            table.add_column(heading, justify="right")
    for item in measured:
        cells = [item.name, str(item.layers), f"{item.text_to_graph * 1e3:.1f}", f"{item.text_to_plan * 1e3:.1f}"]
        for peer in item.peers:
            cells += [f"{peer.ours * 1e3:.3f}", f"{peer.theirs * 1e3:.3f}", f"{peer.ratio:.2f}"]
        table.add_row(*cells)
    console.print(table)
    facts = machine()
    variants = ", ".join(measured[0].variants) if measured else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    console.print(f"medians on the cpu; plans: {variants}", markup=False, soft_wrap=True)
    console.print(f"{facts['date']}, {facts['system']}, {facts['cores']} cores; {versions}", soft_wrap=True)


def _compare(model: Model) -> Peer:
    """One image through both, in turn, after both have given the same output."""
    weights = dict(initial_values(model.params(), 0))
    x = np.random.default_rng(0).normal(size=(1, *model.input_shape)).astype(DTYPE)
    session = Session(model, open_device("cpu", DTYPE), DTYPE)
    for spec, value in weights.items():
        session.set(spec.name, Space.PARAMS if spec.trainable else Space.STATE, value)
    peer = TorchPeer(model, {spec.name: value for spec, value in weights.items()})

    threads = sorted({1, peer.threads})

    def ours() -> Array:
        return session.run("infer", {"input": x}, Scalars(1))["output"]

    _check_same(model.name, ours(), peer(x))
    our_time, *times = _medians([ours, *(partial(peer, x, count) for count in threads)])
    return Peer("torch", our_time, *min(zip(times, threads, strict=True)))


def _check_same(name: str, ours: Array, theirs: Array) -> None:
    theirs = theirs.reshape(ours.shape).astype("float64")
    distance = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-30))
    if not distance <= SAME:
        raise CnnError(f"{name}: torch's output differs from ours by {distance:.1e}; their times can't be compared")


def _medians(works: Sequence[Callable[[], object]]) -> list[float]:
    """Median seconds of each, run in turn so that a slow moment of the machine hits all of them."""
    for work in works:
        work()  # what is only done once is not timed
    times: list[list[float]] = [[] for _ in works]
    begun = time.perf_counter()
    for run in range(MOST):
        elapsed = time.perf_counter() - begun
        if (run >= FEWEST and elapsed > LONG) or (run >= ENOUGH and elapsed > SHORT):
            break
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]
