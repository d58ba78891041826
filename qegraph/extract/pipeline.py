"""`extract`: prune, find landmarks, solve, verify."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from qegraph.extract.dominance import drop_dominated
from qegraph.extract.landmarks import landmarks
from qegraph.extract.model import build
from qegraph.extract.problem import UNITS_PER_MICROSECOND
from qegraph.extract.prune import prune
from qegraph.extract.selection import Selection, needed, total
from qegraph.extract.solve import solve
from qegraph.snapshot import Snapshot

ROUNDS = 3  # landmarks make e-nodes dominated, dropping those makes landmarks


def extract(snapshot: Snapshot, cost: Sequence[float], *, time_limit: float | None = None) -> Selection:
    """The selection of least total cost that computes all roots, each chosen e-node paid once.

    cost        µs per e-node, >= 0; inf: not allowed. Rounded to 10 ps while solving. Among equal costs the solution
                with e-nodes of smaller index in their e-classes wins.
    time_limit  seconds after which parts not yet solved exactly are solved greedily, in near-linear time. Without it
                the result depends on nothing but the input.

    Raises QegraphError if a root has no acyclic derivation of finite cost.
    """
    deadline = None if time_limit is None else monotonic() + time_limit
    problem = prune(snapshot, cost)
    must = landmarks(problem)
    for _ in range(ROUNDS):
        if not drop_dominated(problem, must):
            break
        problem.refresh()
        must = landmarks(problem)
    model = build(problem, must)
    outcome = solve(problem, must, model, deadline)
    chosen = {**problem.free, **model.decided, **outcome.choice}
    order = needed(snapshot, chosen)
    choice = {c: chosen[c] for c in order}
    spent = total(cost, choice)
    slack = 0.0
    if outcome.notes:  # rounding may have moved the bound by half a unit per e-class
        slack = (outcome.slack + len(snapshot.classes)) / UNITS_PER_MICROSECOND
    return Selection(
        choice=choice,
        order=order,
        cost=spent,
        lower_bound=max(0.0, spent - slack),
        method="greedy" if outcome.notes else "elimination",
        largest_cycle=max((len(component) for component in problem.components), default=0),
        notes=tuple(outcome.notes),
    )
