"""Variable elimination: the exact minimum of a sum of tables, by dynamic programming over the variables.

Bucket elimination (Dechter, Artificial Intelligence 113, 1999); for e-graphs see Goharshady, Lam and Parreaux, "Fast
and Optimal Extraction for Sparse Equality Graphs" (OOPSLA 2024) and Sun et al., "E-Graphs as Circuits, and Optimal
Extraction via Treewidth" (2024). Where a table would exceed the limit, a variable is split instead: each of its tables
minimises over it separately, which leaves a lower bound (node splitting, Choi, Chavira and Darwiche, UAI 2007), or
takes the state the variable has in a known solution, which leaves a solution at least as good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import prod
from time import monotonic

import numpy as np

from qegraph.extract.model import Factor, Table

SCRAPS = 256
"""Cells of one table once the work or the time is used up."""


@dataclass
class Budget:
    """What an elimination may spend: cells of one table, cells of all tables, and time (of `time.monotonic`)."""

    max_cells: int
    work: int
    deadline: float | None = None

    def limit(self) -> int:
        """Cells the next table may have."""
        if self.work <= 0 or (self.deadline is not None and monotonic() > self.deadline):
            return min(SCRAPS, self.max_cells)
        return self.max_cells


@dataclass(frozen=True)
class Minimum:
    """bound  minimum of the sum of tables, a lower bound if `split`. states  variable -> index of its state.

    split  how many variables were split. Without a known solution the states mean nothing if there are any.
    """

    bound: float
    states: Mapping[int, int]
    split: int


def minimise(
    sizes: Mapping[int, int],
    factors: Sequence[Factor],
    budget: Budget,
    known: Mapping[int, int] | None = None,
    clamped: Sequence[int] = (),
) -> Minimum:
    """Minimise Σ tables over variables with `sizes[v]` states; among equals smaller states, deterministically.

    known    states of a solution: variables that must be split keep them. clamped  variables to split up front.
    """
    return _Elimination(sizes, factors, budget, known).run(clamped)


class _Elimination:
    def __init__(
        self, sizes: Mapping[int, int], factors: Sequence[Factor], budget: Budget, known: Mapping[int, int] | None
    ) -> None:
        self.sizes = sizes
        self.budget = budget
        self.known = known
        self.factors: dict[int, dict[int, Factor]] = {v: {} for v in sizes}  # variable -> serial number -> factor
        self.serial = 0
        self.neighbours: dict[int, set[int]] = {v: set() for v in sizes}
        self.constant = 0.0
        self.steps: list[tuple[int, list[int], Table]] = []
        self.split: dict[int, int] = {}
        self.heap: list[tuple[int, int]] = []
        self.cells: dict[int, int] = {}
        for factor in factors:
            self._add(factor.variables, factor.table)

    def run(self, clamped: Sequence[int]) -> Minimum:
        for v in clamped:
            self._split(v)
        self.cells = {v: self._cells(v) for v in self.neighbours}
        self.heap = [(cells, v) for v, cells in self.cells.items()]
        heapify(self.heap)
        while self.heap:
            cells, v = heappop(self.heap)
            if self.cells.get(v) != cells:
                continue  # eliminated, or a newer entry is in the heap
            if cells <= self.budget.limit():
                touched = self._eliminate(v)
            else:
                touched = self._split(max(self.neighbours[v] | {v}, key=lambda u: (len(self.neighbours[u]), -u)))
                if v not in touched and v in self.neighbours:
                    touched.append(v)
            for u in touched:
                self.cells[u] = self._cells(u)
                heappush(self.heap, (self.cells[u], u))
        return Minimum(self.constant, self._states(), len(self.split))

    def _cells(self, v: int) -> int:
        """Size of the table that eliminating `v` needs; `max_cells + 1` if it's too large."""
        cells = self.sizes[v]
        for u in self.neighbours[v]:
            cells *= self.sizes[u]
            if cells > self.budget.max_cells:
                return self.budget.max_cells + 1
        return cells

    def _add(self, variables: tuple[int, ...], table: Table) -> None:
        """Add a table, moving its minimum to the constant: the rest stays small, so float64 stays exact."""
        least = float(table.min())
        if least == np.inf:
            raise AssertionError(f"extraction excluded every state of e-classes {variables}")
        self.constant += least
        if not variables:
            return
        factor = Factor(variables, table - least if least else table)
        self.serial += 1
        for v in variables:
            self.factors[v][self.serial] = factor
            self.neighbours[v].update(u for u in variables if u != v)

    def _remove(self, v: int) -> tuple[list[Factor], list[int]]:
        """Take `v` out of the graph: its factors and its neighbours, ascending."""
        mine = self.factors.pop(v)
        for serial, factor in mine.items():
            for u in factor.variables:
                if u != v:
                    del self.factors[u][serial]
        around = sorted(self.neighbours.pop(v))
        for u in around:
            self.neighbours[u].discard(v)
        self.cells.pop(v, None)
        return list(mine.values()), around

    def _eliminate(self, v: int) -> list[int]:
        """Replace the tables of `v` by min over v of their sum; remember the arg min."""
        mine, around = self._remove(v)
        axes = {u: axis for axis, u in enumerate((v, *around))}
        shape = [self.sizes[u] for u in axes]
        self.budget.work -= prod(shape)
        total = np.zeros(shape)
        for factor in mine:
            order = sorted(range(len(factor.variables)), key=lambda i: axes[factor.variables[i]])
            broadcast = [1] * len(shape)
            for i in order:
                broadcast[axes[factor.variables[i]]] = factor.table.shape[i]
            total += factor.table.transpose(order).reshape(broadcast)
        self.steps.append((v, around, total.argmin(axis=0).astype(np.min_scalar_type(shape[0]))))
        self._add(tuple(around), total.min(axis=0))
        return around

    def _split(self, v: int) -> list[int]:
        """Take `v` out of each of its tables separately. Returns the variables whose tables changed."""
        mine, around = self._remove(v)
        self.split[v] = 0 if self.known is None else self.known[v]
        for factor in mine:
            axis = factor.variables.index(v)
            rest = tuple(u for u in factor.variables if u != v)
            table = factor.table.min(axis=axis) if self.known is None else factor.table.take(self.split[v], axis=axis)
            self._add(rest, np.asarray(table))
        return around

    def _states(self) -> dict[int, int]:
        states = dict(self.split)
        for v, around, best in reversed(self.steps):
            states[v] = int(best[tuple(states[u] for u in around)])
        return states
