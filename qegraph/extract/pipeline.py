"""`extract`: prune, find landmarks, solve, verify."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from qegraph.extract.dominance import drop_dominated
from qegraph.extract.group import group
from qegraph.extract.landmarks import landmarks
from qegraph.extract.model import build
from qegraph.extract.prune import prune
from qegraph.extract.selection import Selection, needed, total
from qegraph.extract.solve import solve
from qegraph.extract.units import whole
from qegraph.snapshot import Snapshot

ROUNDS = 3  # landmarks make e-nodes dominated, dropping those makes landmarks


def extract(snapshot: Snapshot, cost: Sequence[float], *, time_limit: float | None = None) -> Selection:
    """The selection of least total cost that computes all roots, each chosen e-node paid once.

    cost        per e-node, >= 0, in µs or any other unit; inf: not allowed. Solved in whole units (`units.whole`):
                exact for costs of at most five decimal places; where costs must be rounded, the lower bound and a note
                say by how much that can matter. Among equal costs the solution with e-nodes of smaller index in their
                e-classes wins.
    time_limit  seconds after which parts not yet solved exactly are solved greedily, in near-linear time. Without it
                the result depends on nothing but the input.

    Raises QegraphError if a root has no acyclic derivation of finite cost or costs are too large to be added;
    ValueError for a cost that is negative or NaN, or a wrong number of costs.
    """
    deadline = None if time_limit is None else monotonic() + time_limit
    units = whole(snapshot, cost)
    problem = prune(snapshot, units.counts)
    must = landmarks(problem)
    for _ in range(ROUNDS):
        if not drop_dominated(problem, must):
            break
        problem.refresh()
        must = landmarks(problem)
    group(problem, must)
    model = build(problem, must)
    outcome = solve(problem, must, model, deadline)
    chosen = {**problem.free, **model.decided, **outcome.choice}
    order = needed(snapshot, chosen)
    choice = {c: chosen[c] for c in order}
    spent = total(cost, choice)
    rounding = units.lost(snapshot, choice)
    notes = list(outcome.notes)
    if rounding:
        notes.append(f"costs were rounded to {units.cost(1):g}, which can hide up to {rounding:.3g} of the cost")
    return Selection(
        choice=choice,
        order=order,
        cost=spent,
        lower_bound=max(0.0, spent - units.cost(outcome.slack) - rounding),
        method=outcome.method,
        largest_cycle=max((len(component) for component in problem.components), default=0),
        notes=tuple(notes),
    )
