"""The published facts of every network of the lectures, layer by layer.

``data/networks.json`` holds them with what goes without saying left out: a layer reads the one before it; stride,
dilation and groups are 1, padding 0, parameters and multiply-adds 0; conv and dense have a bias, batch norm gamma and
beta; everything is trained; pools do not round up, and averages leave padding out. One number stands for equal ones.
The figures are those of the papers, counted again by hand or script for each layer; max pool pads with -inf, an
``add`` with a ``scale`` multiplies its second input, and an ``activation`` comes last in its layer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {"params": 0, "macs": 0, "stride": 1, "pad": 0, "dilation": 1, "groups": 1}


def read_facts() -> dict[str, Any]:
    """By id: ``input``, ``totals``, and ``layers`` with their ``inputs`` and the numbers that have a default."""
    path = Path(__file__).parent / "data" / "networks.json"
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for network in facts.values():
        before = "input"
        for index, layer in enumerate(network["layers"]):
            network["layers"][index] = {**DEFAULTS, "inputs": [before], **layer}
            before = layer["name"]
    return facts


FACTS = read_facts()


def is_in_head(name: str) -> bool:
    """Whether a layer or parameter belongs to a training head; the facts list these behind the main flow."""
    return name.startswith("aux")
