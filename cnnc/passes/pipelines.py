"""Which passes run, in which order. Read a pipeline aloud: each name is a pass in the file of that name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial

from cnnc.env import dump
from cnnc.errors import UsageError
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.params import Arena
from cnnc.ir.plan import Plan
from cnnc.ir.printer import print_graph, print_plan
from cnnc.ir.verify import verify
from cnnc.passes.attach_loss import (
    attach_cross_entropy,
    attach_head_losses,
    attach_output_gradient,
    without_heads,
)
from cnnc.passes.buffers import Arenas
from cnnc.passes.dead_code import dead_code
from cnnc.passes.defer_corrections import defer_corrections
from cnnc.passes.flatten_linear import flatten_linear
from cnnc.passes.fold_batchnorm import fold_batchnorm
from cnnc.passes.fuse import fuse_epilogues
from cnnc.passes.fuse_back_to_back import fuse_back_to_back
from cnnc.passes.fuse_followers import fuse_followers
from cnnc.passes.fuse_lrn import fuse_lrn
from cnnc.passes.fuse_pools import fuse_pools
from cnnc.passes.fuse_products import fuse_products
from cnnc.passes.fuse_prologues import fuse_prologues
from cnnc.passes.fuse_reductions import fuse_late_reductions, fuse_reductions
from cnnc.passes.fuse_splits import fuse_splits
from cnnc.passes.fuse_windows import fuse_windows
from cnnc.passes.lower_batchnorm import lower_batchnorm
from cnnc.passes.merge_siblings import merge_siblings, read_together
from cnnc.passes.place_concats import place_concats
from cnnc.passes.plan import arena_plan, make_plan
from cnnc.passes.pointwise_conv import pointwise_conv
from cnnc.passes.pool_gradients import pool_gradients
from cnnc.passes.recompute import recompute
from cnnc.passes.rewrite import spec_of
from cnnc.passes.roofline import roofline_us
from cnnc.passes.separate_outputs import separate_outputs
from cnnc.passes.share_statistics import share_statistics
from cnnc.passes.swap_pools import swap_pools, swap_trained_pools
from cnnc.passes.training_mode import inference_mode, training_mode

Pass = Callable[[Graph], Graph]

# What a variant means: the oracle evaluates the graph after these.
MEANING: dict[str, tuple[Pass, ...]] = {
    "infer": (inference_mode,),
    "forward": (training_mode,),
    "loss": (training_mode, attach_cross_entropy),
    "vjp": (training_mode, attach_output_gradient),
}

# What becomes one kernel, the same for all variants.
FUSION: tuple[Pass, ...] = (
    fuse_epilogues,
    fuse_products,
    fuse_pools,
    fuse_lrn,
    fuse_back_to_back,
    fuse_splits,
    fuse_windows,
    share_statistics,
    fuse_reductions,
    fuse_followers,
    dead_code,
    # Behind all that joins a kernel before it: an epilogue saves writing what it reads, a prologue at most a write and
    # a read of what it computes. What is left are values that wait for sums, or that several kernels make together.
    fuse_prologues,
    fuse_late_reductions,
    dead_code,
    separate_outputs,
    place_concats,  # last: it counts on what is an output, and what is one kernel
)

# How it is computed. Rewrites of a parameter's shape of use come before the gradients are made.
PIPELINES: dict[str, tuple[Pass, ...]] = {
    "infer": (
        flatten_linear,  # before dropout goes: it decides how weights are stored, and must decide as in training
        inference_mode,
        pointwise_conv,
        fold_batchnorm,  # after the rewrites above, so that it folds into what will run
        swap_pools,
        merge_siblings,  # of folded weights: batch norms of different epsilon have become biases
        dead_code,
        *FUSION,
    ),
    "forward": (
        training_mode,
        flatten_linear,
        pointwise_conv,
        swap_pools,
        merge_siblings,
        lower_batchnorm,
        dead_code,
        *FUSION,
    ),
    "loss": (
        training_mode,
        flatten_linear,
        pointwise_conv,
        swap_trained_pools,
        merge_siblings,
        attach_cross_entropy,
        pool_gradients,
        lower_batchnorm,
        defer_corrections,
        dead_code,  # before fusion, which counts users
        *FUSION,
    ),
    "vjp": (
        training_mode,
        flatten_linear,
        pointwise_conv,
        swap_trained_pools,
        merge_siblings,
        attach_output_gradient,
        pool_gradients,
        lower_batchnorm,
        defer_corrections,
        dead_code,
        *FUSION,
    ),
}

VARIANTS = tuple(PIPELINES)

# What only makes a network faster, and may be left out by name. The others give it its meaning, or its parameters the
# order in which every plan stores them.
OPTIONAL = (
    "pointwise_conv",
    "fold_batchnorm",
    "swap_pools",
    "swap_trained_pools",
    "merge_siblings",
    "pool_gradients",
    "defer_corrections",
    "fuse_epilogues",
    "fuse_products",
    "fuse_pools",
    "fuse_lrn",
    "fuse_back_to_back",
    "fuse_splits",
    "fuse_windows",
    "share_statistics",
    "fuse_reductions",
    "fuse_followers",
    "fuse_prologues",
    "fuse_late_reductions",
    "place_concats",
)
# Whether these pay is known only when all is fused.
TRIED: tuple[Pass, ...] = (defer_corrections,)
Without = frozenset[str]  # names of passes left out
NOTHING: Without = frozenset()
# By target: the host stores what it computes on the way, so that to compute it in every reader only costs time.
UNWANTED: Mapping[str, Without] = {"cpu": frozenset({"fuse_prologues"})}


def run_passes(graph: Graph, passes: tuple[Pass, ...], label: str = "", position: int = 0) -> Graph:
    """Run passes in order, verifying after each; with CNNC_DUMP, write the graph after each.

    A pass that is only tried is left out again where the passes behind it make more of the graph without it.
    """
    for count, step in enumerate(passes, start=1):
        before, graph = graph, verify(step(graph), step.__name__)
        dump(f"{graph.name}.{label}.{position + count - 1:02}-{step.__name__}.txt", partial(print_graph, graph))
        if step in TRIED and graph is not before:
            rest = passes[count:]
            tried = run_passes(graph, rest, label, position + count)
            plain = run_passes(before, rest, f"{label}-without-{step.__name__}", position + count)
            return tried if roofline_us(tried) <= roofline_us(plain) else plain
    return graph


def start(model: Model, variant: str) -> Graph:
    """What a variant's pipeline starts from: training heads become losses, or go."""
    heads = attach_head_losses if variant == "loss" else without_heads
    return verify(heads(model.graph, model.heads), heads.__name__)


def meaning(model: Model, variant: str) -> Graph:
    """The unfused graph of a variant: what its Plan must compute."""
    return run_passes(start(model, variant), MEANING[variant], f"{variant}-meaning")


def left_out(names: Iterable[str]) -> Without:
    """Passes to leave out, by name.

    Raises:
        UsageError: one is unknown, or nothing would be right without it.
    """
    asked = frozenset(names)
    needed = {step.__name__ for passes in PIPELINES.values() for step in passes} - set(OPTIONAL)
    for name in sorted(asked - set(OPTIONAL)):
        what = f"{name} can't be left out" if name in needed else f"there is no pass {name!r} to leave out"
        raise UsageError(f"{what}; choose from {', '.join(OPTIONAL)}")
    return asked


def pipeline(variant: str, without: Without = NOTHING, segments: int = 1) -> tuple[Pass, ...]:
    """The passes of a variant, some optional ones left out; with ``segments`` for ``recompute`` to cut it into."""
    passes = [step for step in PIPELINES[variant] if step.__name__ not in without]
    if segments > 1:
        first = next(place for place, step in enumerate(passes) if step in FUSION)
        passes.insert(first, _recompute(segments))
    return tuple(passes)


def _recompute(segments: int) -> Pass:
    def step(graph: Graph) -> Graph:
        return recompute(graph, segments)

    step.__name__ = recompute.__name__
    return step


def optimise(model: Model, variant: str, without: Without = NOTHING, segments: int = 1) -> Graph:
    """The graph of a variant after its pipeline."""
    return run_passes(start(model, variant), pipeline(variant, without, segments), variant)


@lru_cache(maxsize=64)
def arenas_of(model: Model) -> Arenas:
    """Arenas of all declared parameters, dead or alive, in program order, as all plans store them.

    The stored layout is what ``flatten_linear`` reads, which runs in every pipeline. In training the statistics
    of a batch norm that nothing reads keep alive what is before it. Parameters that ``merge_siblings`` reads as one lie
    together, whether or not it is left out.
    """
    graph = dead_code(flatten_linear(training_mode(model.graph)))
    read = {value.node for node in graph.walk() for value in node.operands}
    stored = {spec.name: spec for name in read if (spec := spec_of(graph[name])) is not None}
    params = [stored.get(spec.name, spec) for spec in model.params()]
    together = read_together(swap_trained_pools(pointwise_conv(graph)))
    return Arenas(
        Arena(tuple(spec for spec in params if spec.trainable), together),
        Arena(tuple(spec for spec in params if not spec.trainable)),
    )


def compile_plan(
    model: Model, variant: str, target: str, dtype: str, without: Without = NOTHING, segments: int = 1
) -> Plan:
    """The Plan of one variant (``infer``, ``forward``, ``loss``, ``vjp``, ``update``, ``cast``) for one target.

    With more than one of ``segments`` the backward pass computes the forward pass again, segment by segment.
    """
    arenas = arenas_of(model)
    if variant == "update":
        return arena_plan(
            ops.SgdUpdate(arenas.params.decayed, arenas.params.clipped), arenas, model.name, target, dtype
        )
    if variant == "cast":
        return arena_plan(ops.CastArena(), arenas, model.name, target, dtype)
    without |= UNWANTED.get(target, NOTHING)
    plan = make_plan(optimise(model, variant, without, segments), arenas, variant, target, dtype)
    dump(f"{model.name}.{variant}.{target}.plan.txt", partial(print_plan, plan))
    return plan
