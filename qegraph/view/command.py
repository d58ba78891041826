"""`qegraph explain`: a model optimised, and what became of it, on the terminal or in a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qegraph import zoo
from qegraph.dump import load_model
from qegraph.errors import QegraphError
from qegraph.files import write_text
from qegraph.view.explain import FORMATS, Format, explain


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments: a model, a format, and where the text goes."""
    parser.add_argument("model", metavar="MODEL", help="a zoo model, or a .pt2 file of an exported quantized program")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="of a zoo model (default full)")
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default text")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write it there (default: the terminal)")


def run(args: argparse.Namespace) -> int:
    """Write what was asked for and return the exit code. Raises QegraphError for a file that can't be written."""
    size: zoo.Size = args.size
    wanted: Format = args.format
    out: Path | None = args.out
    if out is not None and not out.parent.is_dir():  # said before the model is loaded, which takes longer
        raise QegraphError(f"{out} can't be written: there is no folder {out.parent}; create it or choose another")
    text = explain(load_model(args.model, size), format=wanted)
    if out is None:
        sys.stdout.write(text.rstrip("\n") + "\n")
        return 0
    try:
        write_text(out, text)
    except OSError as error:
        raise QegraphError(f"{out} can't be written: {error.strerror}; choose another file with -o") from error
    return 0
