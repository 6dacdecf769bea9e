"""Any set of passes, in any network, keeps values, gradients and running statistics."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cnnc.errors import CnnError
from cnnc.frontend import load
from cnnc.ir.model import Model
from cnnc.passes.pipelines import NOTHING, OPTIONAL, VARIANTS, Without, meaning, optimise
from cnnc.runtime.compare import output_errors
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from cnnc.source import Source
from tests.random_blocks import programs
from tests.random_programs import random_model

TOLERANCE = 1e-9  # relative L2 in float64
BATCH = 2
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
SETS = st.one_of(
    st.just(NOTHING),
    st.sampled_from([frozenset(OPTIONAL) - {name} for name in OPTIONAL]),  # each alone
    st.frozensets(st.sampled_from(OPTIONAL)),
)


def _model(text: str) -> Model:
    """The program; a case without one where pieces do not fit each other."""
    try:
        return load(Source("<test>", text))
    except CnnError:
        assume(False)
        raise


def _check(model: Model, without: Without) -> None:
    scalars = Scalars(BATCH, seed=1, step=1)
    params = random_params(model, 1)
    for variant in VARIANTS:
        before, after = meaning(model, variant), optimise(model, variant, without)
        inputs = random_inputs(before, BATCH, 1)
        reference = evaluate(before, inputs, params, scalars=scalars)
        values = evaluate(after, inputs, params, scalars=scalars)
        assert set(before.outputs) == set(after.outputs)
        errors = output_errors(before, reference, after, values)
        assert max(errors.values()) <= TOLERANCE, (variant, errors)


@settings(max_examples=25, **QUIET)
@given(programs(), SETS)
def test_networks_of_known_blocks(text: str, without: Without) -> None:
    _check(_model(text), without)


@settings(max_examples=25, **QUIET)
@given(st.integers(0, 10**6), SETS)
def test_any_program(seed: int, without: Without) -> None:
    _check(random_model(seed, work=20_000), without)


@pytest.mark.slow
@settings(max_examples=600, **QUIET)
@given(programs(), SETS)
def test_many_networks_of_known_blocks(text: str, without: Without) -> None:
    _check(_model(text), without)


@settings(max_examples=12, **QUIET)
@given(programs())
def test_every_group_on_the_cpu(text: str) -> None:
    groups = list(verify_model(_model(text), open_device("cpu", "float64"), "float64", train=True, batch=BATCH))
    assert [group for group in groups if not group.passed] == []


@pytest.mark.slow
@settings(max_examples=60, **QUIET)
@given(programs())
def test_every_group_through_the_interpreter(text: str) -> None:
    model = _model(text)
    groups = list(verify_model(model, open_device("interpret", "float32"), "float32", train=True, batch=BATCH))
    assert [group for group in groups if not group.passed] == []
