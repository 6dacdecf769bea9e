"""The work arena of every model is nearly as small as what is live at its fullest step."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc.frontend import load, read_source
from cnnc.ir.plan import Schedule
from cnnc.passes.pipelines import compile_plan
from cnnc.passes.plan import buckets_of
from tests.passes.test_plans import live_bytes

MODELS = Path(__file__).parent.parent.parent / "models"
TARGETS = (("cpu", "float32"), ("interpret", "float32"), ("sm_90", "bfloat16"))
DEEP = ("densenet", "inception_", "googlenet", "resnet", "plain", "xception", "fcn", "alphago", "wavenet")
NAMES = sorted(path.stem for path in MODELS.glob("*.cnn"))
AT_TYPICAL = 1.05  # times the least possible
AT_ANY = 1.15  # also where partial sums are large beside the images: at the least N of a bucket


def ratio(schedule: Schedule, n: int) -> float:
    return schedule.work.at(n) / max(1, live_bytes(schedule, n))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith(DEEP) else []) for name in NAMES]
)
def test_work_memory_is_nearly_as_small_as_it_can_be(name):
    model = load(read_source(MODELS / f"{name}.cnn"))
    found = []
    for target, dtype in TARGETS:
        for variant in ("infer", "loss"):
            plan = compile_plan(model, variant, target, dtype)
            for schedule, bucket in zip(plan.schedules, buckets_of(target, dtype), strict=True):
                for n in (bucket.low, bucket.typical, bucket.high or 1000):
                    limit = AT_TYPICAL if n == bucket.typical else AT_ANY
                    found.append((ratio(schedule, n) / limit, ratio(schedule, n), target, variant, n))
    worst = max(found)
    assert worst[0] <= 1, f"{name}: {worst[1]:.3f} times what is live, {worst[2:]}; {sorted(found)[-5:]}"
