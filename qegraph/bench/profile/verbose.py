"""oneDNN's verbose log: switched on for a block in every copy of the library in the process, and read."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qegraph.errors import QegraphError

_EXECUTED = re.compile(r"onednn_verbose(?:,v1)?(?:,[\d.]+)?(?:,primitive)?,exec,")
"""What such lines start with; not all versions say "v1" and "primitive", and there may be a time stamp."""


@dataclass(frozen=True)
class Primitive:
    """One execution: what it was, on which shapes, and how long it took in microseconds (a resolution of one)."""

    kind: str
    implementation: str
    problem: str
    microseconds: float

    @property
    def moves(self) -> bool:
        """Whether it only moves data from one layout to another."""
        return self.kind == "reorder"


def primitives(lines: Iterable[str]) -> list[Primitive]:
    """The executions a log tells of, in order; other lines are passed over.

    Raises QegraphError for a line that tells of one in another form than this version of the log is known to have.
    """
    return [_primitive(line[found.end() :].strip()) for line in lines if (found := _EXECUTED.match(line))]


def _primitive(text: str) -> Primitive:
    # engine, kind, implementation, propagation, memory, attributes, auxiliary, problem, ms
    try:
        _, kind, implementation, _, _, _, _, problem, milliseconds = text.split(",")
        time = float(milliseconds) * 1e3
    except ValueError as error:
        raise QegraphError(f"This line of oneDNN's log isn't in the form known here: {text[:200]}") from error
    return Primitive(kind, implementation, problem, time)


@contextmanager
def verbose() -> Generator[None]:
    """Log executions to the process's standard output, by torch's own oneDNN and by any other that is loaded."""
    others = _others()
    for library in others:
        library.dnnl_set_verbose(1)
    try:
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            yield
    finally:
        for library in others:
            library.dnnl_set_verbose(0)


def _others() -> list[Any]:
    """oneDNN as a library of its own: torch's is linked into it, and hidden."""
    maps = Path("/proc/self/maps")
    paths = {line.split()[-1] for line in maps.read_text().splitlines()} if maps.exists() else set[str]()
    return [ctypes.CDLL(path, os.RTLD_NOLOAD) for path in sorted(paths) if Path(path).name.startswith("libdnnl.so")]
