"""`Account`: everything a report is computed from, and what its parts ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from qegraph.emit import META
from qegraph.extract import Selection
from qegraph.freeze import Evidence
from qegraph.program import Program
from qegraph.snapshot import ENode, Snapshot


@dataclass(frozen=True)
class Account:
    """costs  µs per e-node, as extraction was given them. limit  of the budget, if the search stopped there."""

    program: Program
    snapshot: Snapshot
    selection: Selection
    evidence: Evidence
    value_class: Mapping[int, int]
    module: fx.GraphModule
    costs: Sequence[float]
    limit: str = ""

    def chosen(self, eclass: int) -> ENode:
        """Raises KeyError for an e-class the result doesn't need."""
        return self.snapshot.nodes[self.selection.choice[eclass]]

    @cached_property
    def emitted(self) -> Mapping[int, fx.Node]:
        """e-class -> the node that computes it: the last, where an e-node is several calls."""
        found: dict[int, fx.Node] = {}
        for node in self.module.graph.nodes:
            if META in node.meta:
                found[self.snapshot.nodes[node.meta[META]["enode"]].eclass] = node
        return found


def described(snapshot: Snapshot, eclass: int) -> str:
    """Type and shape, e.g. "uint8 1x64x56x56"; empty for what is no tensor."""
    shape = snapshot.shape.get(eclass)
    if shape is None:
        return ""
    return f"{snapshot.dtype.get(eclass, '')} {dims(shape)}".strip()


def dims(shape: Sequence[int]) -> str:
    """E.g. "1x64x56x56", a symbolic dim as s0, s1, ...; "scalar" without dims."""
    return "x".join(str(d) if d >= 0 else f"s{-1 - d}" for d in shape) or "scalar"
