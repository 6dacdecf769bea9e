"""Each pipeline on small programs: the printed graph, and that it means what it meant before."""

from pathlib import Path

import numpy as np
import pytest

from cnnc.frontend import load, read_source
from cnnc.ir.printer import print_graph
from cnnc.passes.pipelines import MEANING, PIPELINES, VARIANTS, meaning, optimise, run_passes
from cnnc.runtime.compare import canonical_output, relative_error
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params

GOLDEN = Path(__file__).parent / "golden"
PROGRAMS = sorted(path.stem for path in GOLDEN.glob("*.cnn"))
SCALARS = Scalars(3, seed=11, step=5)
TOLERANCE = 1e-12


def model_of(program):
    return load(read_source(GOLDEN / f"{program}.cnn"))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_printed_graph(program, variant, golden):
    golden(GOLDEN / f"{program}.{variant}.txt", print_graph(optimise(model_of(program), variant)))


def test_every_golden_file_has_its_program():
    expected = {f"{program}.{variant}.txt" for program in PROGRAMS for variant in VARIANTS}
    assert {path.name for path in GOLDEN.glob("*.txt")} == expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_prefix_of_a_pipeline_keeps_the_meaning(program, variant):
    """The graph after each pass, once it computes this variant at all, gives the reference's outputs."""
    model = model_of(program)
    reference = meaning(model, variant)
    inputs, params = random_inputs(reference, 3, 7), random_params(model, 7)
    want = evaluate(reference, inputs, params, scalars=SCALARS)
    norms = [np.linalg.norm(want[value]) for value in reference.outputs.values()]
    compared = 0
    for length in range(1, len(PIPELINES[variant]) + 1):
        passes = PIPELINES[variant][:length]
        graph = run_passes(model.graph, passes)
        if MEANING[variant][0] not in passes or set(graph.outputs) != set(reference.outputs):
            continue
        got = evaluate(graph, inputs, params, scalars=SCALARS)
        for name, value in reference.outputs.items():
            one = canonical_output(graph, name, graph.outputs[name], got[graph.outputs[name]])
            other = canonical_output(reference, name, value, want[value])
            assert relative_error(one, other, 1e-3 * max(norms)) < TOLERANCE, (name, length)
        compared += 1
    assert compared >= 4
