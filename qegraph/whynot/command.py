"""`qegraph why-not`: the question of the command line."""

from __future__ import annotations

import argparse

from qegraph import zoo
from qegraph.dump import load_model
from qegraph.whynot.ask import why_not


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments: a model, a node of its q/dq graph, and optionally a rule."""
    parser.add_argument("model", metavar="MODEL", help="a zoo model, or a .pt2 file of an exported quantized program")
    parser.add_argument("node", metavar="NODE", help="a name of the quantized graph, e.g. conv2d_3")
    parser.add_argument("rule", metavar="RULE", nargs="?", help="default: the one that came nearest")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of a zoo model (default full)")


def run(args: argparse.Namespace) -> int:
    """Print the answer and return the exit code."""
    size: zoo.Size = args.size
    print(why_not(load_model(args.model, size), args.node, args.rule))
    return 0
