"""``cnnc run``: a network on images from a file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cnnc import api
from cnnc.cli.output import say, write_stdout
from cnnc.codegen.artifact import read_artifact
from cnnc.files import replacing
from cnnc.frontend import load, read_source
from cnnc.source import Source
from cnnc.train import load_weights
from cnnc.train.arrays import pixels, read_array, require_finite
from cnnc.train.protocol import Array

SHOWN_CLASSES = 3
MAX_SHOWN_IMAGES = 20


def run(args: argparse.Namespace) -> int:
    """Write the output to a file, or print it for people."""
    net = _network(args)
    x = pixels(args.input, read_array(args.input))
    if x.shape == net.input_shape:
        x = x[np.newaxis]
    if x.shape[1:] == net.input_shape:
        require_finite(args.input, x)
    y = np.asarray(net(x))
    if not args.weights:
        say(f"no --weights: the parameters are random (seed {args.seed})")
    if args.output:
        with replacing(args.output) as temporary, open(temporary, "wb") as file:
            np.save(file, y)
    else:
        write_stdout(readable(y, nearest=net.model.gives_distances))
    return 0


def _network(args: argparse.Namespace) -> api.Network:
    path = Path(args.program)
    if path.is_dir():
        # The folder holds the program; weights are never in it.
        artifact = read_artifact(path)
        source, dtype = Source(args.program, artifact.text), args.dtype or artifact.dtype
    else:
        source, dtype = read_source(path), args.dtype or "float32"
    net = api.Network(
        load(source), device=args.device, dtype=dtype, training=False, seed=args.seed, without=args.without
    )
    if args.weights:
        net.load_state_dict(load_weights(args.weights))
    return net


def readable(y: Array, *, nearest: bool = False) -> str:
    """The best outputs of each image (the smallest if ``nearest``), or shape and range of what are no vectors."""
    if y.ndim != 2:
        shape = "x".join(map(str, y.shape))
        return f"output {shape}: smallest {y.min():.6g}, mean {y.mean():.6g}, largest {y.max():.6g}\n"
    lines = []
    for number, row in enumerate(y[:MAX_SHOWN_IMAGES]):
        top = np.argsort(row if nearest else -row, kind="stable")[:SHOWN_CLASSES]
        lines.append(f"image {number}: " + ", ".join(f"class {index} ({row[index]:.4f})" for index in top))
    if len(y) > MAX_SHOWN_IMAGES:
        lines.append(f"... and {len(y) - MAX_SHOWN_IMAGES} more images; -o writes them all")
    return "\n".join(lines) + "\n"
