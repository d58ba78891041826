"""Parts too wide for elimination, as integer programs solved by HiGHS where the extra `ilp` is installed.

One 0/1 column for every e-node that an e-class can choose; "chosen ⇒ children used" as rows. Cycles are forbidden by
loop formulas (Lin and Zhao, "ASSAT", Artificial Intelligence 157, 2004): if an e-class of a set is used, one of the set
must choose an e-node without a child in it. Those of two e-classes are there from the start, others once a solution
breaks them. Whatever HiGHS says is evaluated again in whole units; its bound is taken with a margin for its tolerances.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from time import monotonic
from typing import Any

import numpy as np

from qegraph.extract.graph import find_cycles, strong_components
from qegraph.extract.model import UNUSED, Model, Part
from qegraph.extract.problem import Problem

ROUNDS = 500  # solutions with a cycle to see before giving up on a part
NODES = 10_000  # of one search tree, where no time limit ends it
MARGIN = 0.25  # units a bound may be too high by: HiGHS keeps reduced costs to 1e-7 a column

Row = tuple[float, Mapping[int, float]]  # lower end, column -> coefficient; no upper end


def available() -> bool:
    """Is highspy installed?"""
    try:
        importlib.import_module("highspy")
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Bounds:
    """states  the best solution found. reached  its weight. bound  no solution weighs less; both in units."""

    states: Mapping[int, int]
    reached: float
    bound: float


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


def solve_part(
    program: Program, states: Mapping[int, int], weigh: Callable[[Mapping[int, int]], float], deadline: float | None
) -> Bounds:
    """The best solution HiGHS finds from the known one, `states`, and its bound, until proof or `deadline`.

    weigh  weight of a solution in units, inf if it isn't one. Deterministic unless the deadline ends it.
    """
    best, reached, bound = states, weigh(states), -inf
    for _ in range(ROUNDS):
        if deadline is not None and monotonic() >= deadline:
            break
        optimal, values, least = _run(program, best, deadline)
        bound = max(bound, least)
        if values is None:
            break
        found = program.decode(values)
        weight = weigh(found)
        if weight < reached:
            best, reached = found, weight
        cycles = program.cyclic_sets(found)
        if reached - bound < 0.5 or not cycles or not optimal:
            break
        for members in cycles:
            program.forbid(members)
    return Bounds(best, reached, bound)


def _run(
    program: Program, start: Mapping[int, int], deadline: float | None
) -> tuple[bool, Sequence[float] | None, float]:
    """Is it solved, the values of its columns if there are any, and a lower bound in whole units."""
    highspy: Any = importlib.import_module("highspy")
    solver = importlib.import_module("highspy.highs")._Highs()  # `Highs` itself greets on stdout
    options: dict[str, Any] = {"output_flag": False, "threads": 1, "parallel": "off", "random_seed": 0}
    options |= {"mip_rel_gap": 0.0, "mip_abs_gap": 0.0}
    options |= {"mip_max_nodes": NODES} if deadline is None else {"time_limit": max(0.0, deadline - monotonic())}
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.passModel(_model(highspy, program))
    known = np.zeros(len(program.costs))
    for (c, state), column in program.columns.items():
        known[column] = float(start[c] == state)
    solution = highspy.HighsSolution()
    solution.col_value = known.tolist()
    solver.setSolution(solution)
    solver.run()
    status = solver.getModelStatus()
    info = solver.getInfo()
    optimal = status == highspy.HighsModelStatus.kOptimal
    limits = (highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kSolutionLimit)
    if not optimal and status not in limits:
        return False, None, -inf  # e.g. out of memory: nothing is believed
    least = info.mip_dual_bound
    least = ceil(least - MARGIN) if abs(least) < inf else -inf
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return optimal, list(solver.getSolution().col_value) if found else None, float(least)


def _model(highspy: Any, program: Program) -> Any:
    lp = highspy.HighsLp()
    count = len(program.costs)
    lp.num_col_, lp.num_row_ = count, len(program.rows)
    lp.col_cost_ = np.array(program.costs)
    lp.col_lower_, lp.col_upper_ = np.zeros(count), np.ones(count)
    lp.row_lower_ = np.array([lower for lower, _ in program.rows])
    lp.row_upper_ = np.full(len(program.rows), highspy.kHighsInf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(row) for _, row in program.rows)])
    lp.a_matrix_.index_ = np.array([column for _, row in program.rows for column in row])
    lp.a_matrix_.value_ = np.array([value for _, row in program.rows for value in row.values()])
    lp.integrality_ = [highspy.HighsVarType.kInteger] * count
    return lp
