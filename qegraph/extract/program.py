"""`Program`: a part of the model as a 0/1 program.

One column for every e-node that an e-class can choose; "chosen ⇒ children used" as rows. Cycles are forbidden by loop
formulas (Lin and Zhao, "ASSAT", Artificial Intelligence 157, 2004): if an e-class of a set is used, one of the set must
choose an e-node without a child in it. Those of two e-classes are there from the start; the others, exponentially many,
are added once a solution breaks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qegraph.extract.graph import find_cycles, strong_components
from qegraph.extract.model import UNUSED, Model, Part
from qegraph.extract.problem import Problem

Row = tuple[float, Mapping[int, float]]  # lower end, column -> coefficient; no upper end


@dataclass
class Program:
    """The integer program of one part. columns  (e-class, state) -> column."""

    problem: Problem
    model: Model
    part: Part
    columns: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    costs: list[float] = field(default_factory=list[float])
    rows: list[Row] = field(default_factory=list[Row])
    entangled: dict[int, None] = field(default_factory=dict[int, None])

    def __post_init__(self) -> None:
        for c in self.part.variables:
            for state, k in enumerate(self.model.states[c]):
                if k != UNUSED:
                    self.columns[c, state] = len(self.costs)
                    self.costs.append(self.problem.units[k])
        for c in self.part.variables:
            mine = self._used(c)
            self.rows.append((-1.0, {column: -1.0 for column in mine}))
            if self._always(c):
                self.rows.append((1.0, dict.fromkeys(mine, 1.0)))
            self.rows += self._demands(c)
        self.entangled = self._entangled()
        for c in self.entangled:
            for d in self.problem.successors[c]:
                if c < d and d in self.entangled and c in self.problem.successors[d]:
                    self.forbid((c, d))

    def _entangled(self) -> dict[int, None]:
        """E-classes of the part that can lie on a cycle, and decided ones on the same cycles."""
        mine = frozenset(self.part.variables)
        cyclic = [each for each in self.problem.components if len(each) > 1 and not mine.isdisjoint(each)]
        return {c: None for each in cyclic for c in each if c in mine or c in self.model.decided}

    def _used(self, c: int) -> list[int]:
        """Columns of the e-nodes of `c`: their sum is 1 if it is used."""
        return [self.columns[c, state] for state, k in enumerate(self.model.states[c]) if k != UNUSED]

    def _always(self, c: int) -> bool:
        return c not in self.model.states or self.model.states[c][0] != UNUSED

    def _demands(self, c: int) -> Iterable[Row]:
        """For each child that may be unused: at least as used as the e-nodes of `c` that need it are chosen."""
        needs: dict[int, list[int]] = {}
        for state, k in enumerate(self.model.states[c]):
            if k != UNUSED:
                for d in self.problem.children[k]:
                    if not self._always(d):
                        needs.setdefault(d, []).append(self.columns[c, state])
        for d, columns in needs.items():
            yield 0.0, {**dict.fromkeys(self._used(d), 1.0), **dict.fromkeys(columns, -1.0)}

    def forbid(self, members: Sequence[int]) -> None:
        """The loop formula of these e-classes: one row if one of them is always used, else one for each."""
        inside = frozenset(members)
        leave: dict[int, float] = {}
        for c in members:
            if c in self.model.decided:
                if inside.isdisjoint(self.problem.children[self.model.decided[c]]):
                    return
                continue
            for state, k in enumerate(self.model.states[c]):
                if k != UNUSED and inside.isdisjoint(self.problem.children[k]):
                    leave[self.columns[c, state]] = 1.0
        if any(self._always(c) for c in members):
            self.rows.append((1.0, leave))
            return
        for c in members:
            row = dict(leave)
            for column in self._used(c):
                row[column] = row.get(column, 0.0) - 1.0
            self.rows.append((0.0, {column: value for column, value in row.items() if value}))

    def cyclic_sets(self, states: Mapping[int, int]) -> list[Sequence[int]]:
        """Sets of e-classes that choose each other: whole components, and a shortest cycle of each."""
        chosen = {c: self.model.states[c][states[c]] if c in states else self.model.decided[c] for c in self.entangled}
        inside = {
            c: tuple(d for d in self.problem.children[k] if d in chosen) if k != UNUSED else ()
            for c, k in chosen.items()
        }
        whole = [each for each in strong_components(inside, inside) if len(each) > 1]
        return [*whole, *(cycle for cycle in find_cycles(inside) if tuple(sorted(cycle)) not in whole)]

    def decode(self, values: Sequence[float]) -> dict[int, int]:
        """The state of each variable in a 0/1 solution."""
        found = dict.fromkeys(self.part.variables, 0)
        for (c, state), column in self.columns.items():
            if values[column] > 0.5:
                found[c] = state
        return found
