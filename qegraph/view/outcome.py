"""`Outcome`: one form of a program, named, with everything known about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from qegraph.extract import Selection
from qegraph.report import Report
from qegraph.report.html import fragment
from qegraph.search import Search


@dataclass(frozen=True)
class Outcome:
    """Made by `Session.extract`. `search` is the saturated program it was chosen from, under `costs` (µs an e-node)."""

    name: str
    module: fx.GraphModule
    report: Report
    selection: Selection
    search: Search
    costs: Sequence[float]

    @property
    def cost(self) -> float:
        """µs."""
        return self.selection.cost

    def __str__(self) -> str:
        return f"{self.name}: {self.report}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return fragment(self.report)
