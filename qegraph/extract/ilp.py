"""Parts too wide for elimination, as integer programs solved by HiGHS where the extra `ilp` is installed.

Whatever HiGHS says is evaluated again in whole units; its bound is taken with a margin for its tolerances.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from time import monotonic
from typing import Any

import numpy as np

from qegraph.extract.program import Program

ROUNDS = 500  # solutions with a cycle to see before giving up on a part
NODES = 10_000  # of one search tree, where no time limit ends it
MARGIN = 0.25  # units a bound may be too high by: HiGHS keeps reduced costs to 1e-7 a column


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
