"""The command line: every command, its arguments and its help. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cnnc import __version__

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
PEERS = ("torch",)
DEVICES = ("auto", "cpu", "interpret", "cuda")

PROGRAM_HELP = "a program, *.cnn; models/NAME.cnn is also found where cnnc is installed"

Commands = Any  # argparse keeps the type of its sub-parsers to itself

DESCRIPTION = """\
cnnc compiles a short text about a convolutional network into kernels, forward and
backward, and runs and trains it. `cnnc COMMAND --help` explains each command."""


class Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; ``command`` names the module under ``cnnc.cli`` that runs them.

    Raises:
        SystemExit: help or version was asked for (0), or the arguments are wrong (2).
    """
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="cnnc", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"cnnc {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for add in (_check, _summary, _graph, _expand, _fmt, _explain, _compile, _verify, _run, _train, _bench):
        add(commands)
    return parser


def dtype(text: str) -> str:
    """A dtype's long name from its short or long one."""
    name = DTYPES.get(text, text)
    if name not in DTYPES.values():
        raise argparse.ArgumentTypeError(f"{text!r} is no dtype; choose from {', '.join(DTYPES)}")
    return name


def whole_number(at_least: int) -> Callable[[str], int]:
    """An argument type: an integer with a lower bound."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not at_least <= number < 2**63:
            raise argparse.ArgumentTypeError(f"{text} is out of range: at least {at_least}")
        return number

    return convert


def nbytes(text: str) -> int:
    """An argument type: ``8GB``, ``500 MB``, ``1.5e9``; powers of ten."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?b?)\s*", text.lower())
    try:
        number = float(match.group(1)) * units[match.group(2)] if match else 0.0
    except (KeyError, ValueError):
        number = 0.0
    if not 1 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of memory; write 8GB, 500MB or a number of bytes")
    return int(number)


def peers(text: str) -> tuple[str, ...]:
    """``torch`` or several, separated by commas, each once and known."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} can't be compared with; choose from {', '.join(PEERS)}")
    return names


def names(text: str) -> tuple[str, ...]:
    """``sm_90,sm_80`` as a tuple, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _check(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="parse programs, infer their shapes and check their assertions",
        description="Parse, infer shapes, check assertions. Exit status 0 if every program is right, else 2.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=PROGRAM_HELP)


def _summary(commands: Commands) -> None:
    parser = commands.add_parser(
        "summary",
        help="the paper's table: layers, outputs, parameters, MACs, memory",
        description="Each layer's output, receptive field (`sees`), parameters, multiply-adds and memory, per image;"
        " totals; and what small filters would save. Memory is counted as in networks' published tables: the float32"
        " outputs of convolutions, transposed convolutions, dense layers and pools, and the input. Concatenations,"
        " sums, normalisations and activations are not counted.",
    )
    _program(parser)
    parser.add_argument("--train", action="store_true", help="count training heads too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _graph(commands: Commands) -> None:
    parser = commands.add_parser(
        "graph",
        help="draw the network: repeats folded, shapes on edges",
        description="Draw the network as papers do: repeated blocks once with their count, shapes on edges, a colour"
        " for each kind of layer. svg and png need pygraphviz (pip install 'cnnc[graph]'), dot needs nothing.",
    )
    _program(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="NET.svg", help="picture to write; .svg, .png or .dot says its form"
    )
    parser.add_argument("--train", action="store_true", help="draw training heads too")


def _expand(commands: Commands) -> None:
    parser = commands.add_parser(
        "expand",
        help="print a program in explicit statements",
        description="Print the same network with every default, word and letter written out.",
    )
    _program(parser)


def _fmt(commands: Commands) -> None:
    parser = commands.add_parser(
        "fmt",
        help="pretty-print a program, comments kept",
        description="Pretty-print a program to stdout, comments kept. The network stays the same.",
    )
    _program(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="print nothing; exit status 1 if the file would change")
    how.add_argument("-w", "--write", action="store_true", help="write the result back to the file")


def _explain(commands: Commands) -> None:
    parser = commands.add_parser(
        "explain",
        help="each kernel of a run: its layers, bytes, FLOPs, least time, and why it was not fused",
        description="Each kernel that one run launches (with --train, one training step): the layers it computes; the"
        " bytes of its operands and results, each once; the bytes its loads and stores issue; FLOPs; the roofline, the"
        " least time for both (4.0 TB/s, 700 TFLOP/s); and why the next layer is not part of it. The totals stand"
        " beside those of a run with one kernel for each layer. Needs no GPU.",
    )
    _program(parser)
    parser.add_argument("--batch", type=whole_number(1), default=128, metavar="N", help="images (default: 128)")
    _dtype(parser, "bfloat16", "bf16")
    parser.add_argument("--train", action="store_true", help="a training step with its update, instead of inference")
    parser.add_argument("--target", default="sm_90", metavar="T", help="architecture (default: sm_90)")
    _memory_budget(parser, "--batch images")
    _without(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _compile(commands: Commands) -> None:
    parser = commands.add_parser(
        "compile",
        help="write kernels.py, plan.json and one binary per kernel and target; needs no GPU",
        description="Write a folder with readable kernels.py, plan.json and binaries for each target. Needs no GPU.",
    )
    _program(parser)
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--target",
        type=names,
        default=("sm_90",),
        metavar="T[,T]",
        help="architectures, such as sm_90,sm_80,gfx942 (default: sm_90)",
    )
    parser.add_argument("--train", action="store_true", help="backward and update too")
    _dtype(parser)
    _memory_budget(parser, "the program's batch")
    _without(parser)


def _verify(commands: Commands) -> None:
    parser = commands.add_parser(
        "verify",
        help="compare every kernel with a simple float64 reference",
        description="Run every fused group on random data and compare it with the unfused float64 reference."
        " Exit status 1 if one is off by more than its tolerance.",
    )
    _program(parser)
    parser.add_argument("--train", action="store_true", help="the training step too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--batch", type=whole_number(1), default=3, metavar="N", help="images (default: 3)")
    _device(parser, "interpret")
    _dtype(parser)
    _without(parser)
    _seed(parser, "of weights and images (default: 0)", 0)


def _run(commands: Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run a network on images from an .npy file",
        description="Run a program or a compiled folder on images [N,H,W,C]; bytes become numbers from 0 to 1.",
    )
    parser.add_argument("program", metavar="FILE|DIR", help="a program, or a folder that `cnnc compile` wrote")
    parser.add_argument("--input", required=True, metavar="X.npy", help="images [N,H,W,C], or one image [H,W,C]")
    parser.add_argument("--weights", metavar="W.safetensors", help="weights or a checkpoint of `cnnc train`")
    parser.add_argument("-o", "--output", metavar="Y.npy", help="write the output here instead of printing it")
    _device(parser)
    _dtype(parser, None, "fp32, or what the folder was compiled for")
    _without(parser)
    _seed(parser, "of the random weights used without --weights (default: 0)", 0)


def _train(commands: Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network; checkpoints and a log go into a folder",
        description="Train as the program's train block says. Writes last.safetensors, best.safetensors, log.jsonl.",
    )
    _program(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="SOURCE",
        help="`digits`, or a file.npz with x and y (or x_train, y_train and x_test, y_test)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for checkpoints and log (default: runs/NAME)")
    parser.add_argument("--epochs", type=whole_number(1), metavar="N", help="(default: the train block's)")
    parser.add_argument("--batch", type=whole_number(1), metavar="N", help="(default: the train block's)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    _seed(parser, "of initial weights, split, shuffling and dropout (default: 0, or the checkpoint's)", None)
    _device(parser)
    _dtype(parser)
    _memory_budget(parser, "--batch images")
    _without(parser)


def _bench(commands: Commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="time programs on this machine",
        description="Medians on this machine: from the text to the checked graph, from the text to the plans of a run"
        " (with --train, of training), and one image beside other software, run in turn.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help=PROGRAM_HELP)
    parser.add_argument("--train", action="store_true", help="the plans of training too")
    parser.add_argument(
        "--against",
        type=peers,
        default=(),
        metavar="P[,P]",
        help=f"time one image beside {', '.join(PEERS)} on the cpu",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with versions and date, instead of a table")


def _program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=PROGRAM_HELP)


def _device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    names = "auto (cuda where there is a card, else cpu), cpu, interpret (Triton's interpreter) or cuda"
    parser.add_argument("--device", choices=DEVICES, default=default, metavar="D", help=f"{names} (default: {default})")


def _dtype(parser: argparse.ArgumentParser, default: str | None = "float32", meaning: str = "fp32") -> None:
    text = f"fp32, bf16, fp16 or, on cpu, fp64 (default: {meaning})"
    parser.add_argument("--dtype", type=dtype, default=default, metavar="T", help=text)


def _without(parser: argparse.ArgumentParser) -> None:
    text = "passes to leave out; a name that is none of them lists them all"
    parser.add_argument("--without", type=names, default=(), metavar="PASS[,PASS]", help=text)


def _memory_budget(parser: argparse.ArgumentParser, batch: str) -> None:
    text = f"memory of a training step on {batch}: parts of the forward pass are computed again until it fits"
    parser.add_argument("--memory-budget", type=nbytes, default=None, metavar="BYTES", help=f"{text}; 8GB, 500MB, ...")


def _seed(parser: argparse.ArgumentParser, what: str, default: int | None) -> None:
    parser.add_argument("--seed", type=whole_number(0), default=default, metavar="S", help=what)
