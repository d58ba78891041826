"""What was done with the graphs compiled in this process, for as long as their code lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from qegraph import _dynamo
from qegraph.report import Report


@dataclass(frozen=True)
class Piece:
    """One graph: its report, and the state of modules that it reads."""

    report: Report
    state: tuple[torch.Tensor, ...]


_PIECES: weakref.WeakKeyDictionary[Callable[..., Any], Piece] = weakref.WeakKeyDictionary()
"""Compiled code -> its piece."""


def remember(code: Callable[..., Any], piece: Piece) -> None:
    """For as long as `code` lives."""
    _PIECES[code] = piece


def compiled_reports(compiled: Any = None) -> tuple[Report, ...]:
    """A report for each graph compiled with backend "qegraph", in the order they were compiled.

    compiled  a result of `torch.compile(module)`, which is compiled when it is first called: only graphs that read its
              parameters or buffers. Without it all graphs whose code still lives.

    Where a graph was left to Inductor alone, `report.unchanged` says why.
    """
    if compiled is None:
        return tuple(piece.report for piece in _PIECES.values())
    module = _dynamo.compiled_module(compiled)
    if module is None:
        raise TypeError(f"expected a result of torch.compile(module), got {type(compiled).__name__}")
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return tuple(piece.report for piece in _PIECES.values() if any(id(tensor) in own for tensor in piece.state))
