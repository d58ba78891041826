"""`qegraph fuzz`: random programs against what they compute, for as long as wanted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qegraph.bench import show
from qegraph.load_rules import select
from qegraph.progress import progress

from .grow import KINDS
from .run import run as run_programs
from .state import State, load, tables

_PROGRAMS = 200


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=float, metavar="H", help="for so long, however many programs that is")
    parser.add_argument("--programs", type=int, metavar="N", help=f"at most so many (default {_PROGRAMS}, or no limit)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the first program (default 0; one each, upwards)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that run programs (default 1)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from this state, and keep it there")


def run(args: argparse.Namespace) -> int:
    """The exit code: 1 if there are findings, of this run or of an earlier one. Raises QegraphError for a bad state."""
    state = State()
    if args.resume is not None and args.resume.exists():
        state = load(args.resume)
    elif args.seed is not None:
        state.first = state.next = args.seed
    programs = args.programs if args.programs is not None or args.hours is not None else _PROGRAMS
    seconds = None if args.hours is None else args.hours * 3600
    with progress("fuzz", programs) as tell:
        try:
            run_programs(state, tell, programs, seconds, path=args.resume, processes=args.processes)
        except KeyboardInterrupt:
            tell("interrupted")
    show(tables(state, list(KINDS), [rule.name for rule in select(None)]))
    for seed, what in state.undecided.items():
        print(f"undecided: seed {seed}: {what}")
    for found in state.findings:
        print(f"FAILED seed {found.seed}: {found.form}: {found.what}\n{found.script}", file=sys.stderr)
    return 1 if state.findings else 0
