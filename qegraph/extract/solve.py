"""Solve a `Model` part by part: exactly, adding cycle tables as needed; where that fails, around a greedy solution,
which integer programming improves if it is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from math import fsum, inf
from time import monotonic

from qegraph.extract import ilp
from qegraph.extract.cycles import forbid
from qegraph.extract.eliminate import Budget, Minimum, minimise
from qegraph.extract.graph import find_cycles
from qegraph.extract.greedy import Cover
from qegraph.extract.model import UNUSED, Factor, Model, Part
from qegraph.extract.problem import Problem
from qegraph.extract.program import Program
from qegraph.extract.selection import Method

CUT_ROUNDS = 20  # solutions with a cycle to see before giving up on a part

# Cells per table (8 bytes each) and per attempt (about 100 million a second). Easy parts first: a hard one can't starve
# them. The work on hard parts is divided evenly.
EASY_CELLS, EASY_WORK = 100_000, 50_000_000
HARD_CELLS, HARD_WORK = 4_000_000, 100_000_000

SOLVED = 0.5
"""A solution nearer to its bound is optimal: costs are whole units, tie-breakers add up to at most half of one."""


@dataclass
class Outcome:
    """choice  e-class -> e-node for the variables. slack  by how many units it may exceed the optimum.

    method  the last resort that was needed. notes  one for each part whose optimum is unknown.
    """

    choice: dict[int, int] = field(default_factory=dict[int, int])
    slack: float = 0.0
    method: Method = "elimination"
    notes: list[str] = field(default_factory=list[str])


def solve(problem: Problem, must: Set[int], model: Model, deadline: float | None) -> Outcome:
    """Choose for every variable of the model. A part that is too wide doesn't cost the others their optimum."""
    tasks = [_Task(problem, model, part) for part in model.parts]
    hard = [task for task in tasks if not task.relax(Budget(EASY_CELLS, EASY_WORK, deadline))]
    hard = [task for task in hard if not task.relax(Budget(HARD_CELLS, HARD_WORK // len(hard), deadline))]
    outcome = Outcome()
    if hard:
        cover = Cover(problem, must)
        cover.improve()
        for task in hard:
            task.repair(cover, Budget(EASY_CELLS, EASY_WORK // len(hard), deadline))
        hard = sorted((task for task in hard if task.slack >= SOLVED), key=lambda task: len(task.part.variables))
        for i, task in enumerate(hard if ilp.available() else ()):  # small ones leave time for large ones
            task.program(None if deadline is None else monotonic() + (deadline - monotonic()) / (len(hard) - i))
    for task in tasks:
        task.report(outcome)
    return outcome


class _Task:
    """One part on its way to a solution. `bound` and `reached` are in units."""

    def __init__(self, problem: Problem, model: Model, part: Part) -> None:
        self.problem = problem
        self.model = model
        self.part = part
        self.sizes = {c: len(model.states[c]) for c in part.variables}
        self.factors = list(part.factors)
        self.states: Mapping[int, int] = {}
        self.bound = -inf
        self.reached = inf
        self.split = 0
        self.method: Method = "elimination"

    @property
    def slack(self) -> float:
        return self.reached - self.bound

    def relax(self, budget: Budget) -> bool:
        """Minimise, forbidding the cycles that show up. Returns whether that solves the part."""
        for _ in range(CUT_ROUNDS):
            relaxed = minimise(self.sizes, self.factors, budget)
            self.bound = max(self.bound, relaxed.bound)
            if relaxed.split:
                return False
            cuts = self._cuts(relaxed)
            if cuts is None:
                return False
            if not cuts:
                self.states, self.bound, self.reached = relaxed.states, relaxed.bound, relaxed.bound
                return True
            self.factors += cuts
        return False

    def _cuts(self, minimum: Minimum) -> list[Factor] | None:
        """Tables against the cycles in a solution; only e-classes not guarded up front can have any.

        None if a table would be too large.
        """
        chosen = {
            c: self.model.states[c][minimum.states[c]] if c in minimum.states else self.model.decided[c]
            for c in self.part.unguarded
        }
        inside = {
            c: tuple(d for d in self.problem.children[k] if d in chosen) if k != UNUSED else ()
            for c, k in chosen.items()
        }
        cuts: list[Factor] = []
        for cycle in find_cycles(inside):
            entry = forbid(self.problem, cycle, self.model.states)
            if entry is None:
                return None
            cuts.append(Factor(*entry))
        return cuts

    def repair(self, cover: Cover, budget: Budget) -> None:
        """Keep the greedy states of the most entangled variables, solve for the others exactly around them."""
        known: dict[int, int] = {}
        for c in self.part.variables:
            known[c] = self.model.states[c].index(cover.choice[c] if cover.uses[c] else UNUSED)
        clamped = [c for c in self.part.unguarded if c in known]
        repaired = minimise(self.sizes, self.factors, budget, known, clamped)
        self.states, self.reached, self.split = repaired.states, repaired.bound, repaired.split
        self.method = "elimination" if self.slack < SOLVED else "greedy"

    def program(self, deadline: float | None) -> None:
        """Improve the solution and the bound by integer programming."""
        found = ilp.solve_part(Program(self.problem, self.model, self.part), self.states, self._weight, deadline)
        if found.reached < self.reached or found.bound > self.bound:
            self.method = "ilp"
        self.states, self.reached = found.states, min(self.reached, found.reached)
        self.bound = max(self.bound, found.bound)

    def _weight(self, states: Mapping[int, int]) -> float:
        """Of a solution, from the tables; inf if it has a cycle."""
        weight = fsum(float(each.table[tuple(states[c] for c in each.variables)]) for each in self.factors)
        return weight if self._cuts(Minimum(weight, states, 0)) == [] else inf

    def report(self, outcome: Outcome) -> None:
        for c, state in self.states.items():
            k = self.model.states[c][state]
            if k != UNUSED:
                outcome.choice[c] = k
        outcome.method = _RESORTS[max(map(_RESORTS.index, (outcome.method, self.method)))]
        if self.slack < SOLVED:
            return
        outcome.slack += self.slack
        why = "too many cycles" if self.part.unguarded else "too wide, or out of time"
        how = "given to an integer program that did not finish"
        outcome.notes.append(
            f"{self.split} of {len(self.part.variables)} undecided choices around e-class {self.part.variables[0]} "
            f"were chosen greedily ({why})" + (f", then {how}" if self.method == "ilp" else "")
        )


_RESORTS: tuple[Method, ...] = ("elimination", "ilp", "greedy")
