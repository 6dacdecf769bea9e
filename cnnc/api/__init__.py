"""cnnc in a Python program: compile a text, run it, train it, keep it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cnnc.api.artifact import build_artifact
from cnnc.api.evaluation import Evaluation
from cnnc.api.network import Network
from cnnc.api.persistence import read_saved
from cnnc.frontend import load as load_model
from cnnc.frontend import read_source
from cnnc.passes.budget import Budget
from cnnc.source import Source

__all__ = ["Evaluation", "Network", "build_artifact", "compile", "load"]


def compile(
    program: str | os.PathLike[str],
    device: str = "auto",
    dtype: str = "float32",
    training: bool = False,
    seed: int = 0,
    without: Iterable[str] = (),
    memory_budget: int | None = None,
) -> Network:
    """A network from a program: a path to a ``.cnn`` file, or the text itself.

    Args:
        program: path or text.
        device: ``auto`` (cuda where there is a card, else cpu), ``cpu``, ``interpret`` or ``cuda``.
        dtype: ``float32``, ``bfloat16``, ``float16`` (or ``fp32``, ``bf16``, ``fp16``); on cpu also ``float64``.
        training: whether gradients and updates will be asked for.
        seed: of initial weights and dropout, 0 <= seed < 2**63.
        without: names of optional passes to leave out, as `cnnc explain --without` does.
        memory_budget: bytes that a training step on the program's batch may take; parts of the forward pass are
            computed again instead of kept until it fits.

    Raises:
        CnnError: the program, device, dtype, seed or a pass's name is wrong; one sentence each.
    """
    model = load_model(read_source(program))
    budget = None if memory_budget is None else Budget(memory_budget, model.train.batch)
    return Network(model, device=device, dtype=dtype, training=training, seed=seed, without=without, budget=budget)


def load(path: str | os.PathLike[str], device: str = "auto") -> Network:
    """A network that ``Network.save`` wrote.

    Raises:
        CnnError: the file is not one, or is damaged.
    """
    saved = read_saved(path)
    facts = saved.facts
    model = load_model(Source(facts.name, facts.program))
    net = Network(model, device=device, dtype=facts.dtype, training=facts.training, seed=facts.seed)
    net.load_state_dict(saved.state)
    if net.training:
        net.load_optimizer_state(saved.optimizer)
    net.step = facts.step
    return net
