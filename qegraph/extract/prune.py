"""From a `Snapshot` to the smallest equivalent `Problem`: drop what no optimal solution needs."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import inf

from qegraph.errors import QegraphError
from qegraph.extract.dominance import drop_dominated
from qegraph.extract.problem import Problem
from qegraph.snapshot import Snapshot


def prune(snapshot: Snapshot, units: Sequence[float]) -> Problem:
    """Keep e-nodes that have an acyclic derivation of finite cost, are reachable and are not dominated.

    units  whole costs, or inf. Raises QegraphError if a root has no such derivation.
    """
    options = _derivable(snapshot, units)
    for root in snapshot.roots:
        if not options[root]:
            raise QegraphError(_why_underivable(snapshot, units, options, root))
    problem = Problem(snapshot.roots, options, [node.children for node in snapshot.nodes], list(units))
    problem.refresh()
    _settle_free(problem)
    drop_dominated(problem, frozenset())
    problem.refresh()
    problem.weigh()
    return problem


def _derivable(snapshot: Snapshot, units: Sequence[float]) -> list[tuple[int, ...]]:
    """Per e-class the allowed e-nodes all of whose children can be built bottom up (least fixpoint, linear)."""
    users: list[list[int]] = [[] for _ in snapshot.classes]
    missing = [len(node.children) for node in snapshot.nodes]
    ready: list[int] = []
    for node in snapshot.nodes:
        if units[node.index] == inf or node.eclass in node.children:
            missing[node.index] = -1
            continue
        for child in node.children:
            users[child].append(node.index)
        if not node.children:
            ready.append(node.index)
    built = [False] * len(snapshot.classes)
    while ready:
        eclass = snapshot.nodes[ready.pop()].eclass
        if built[eclass]:
            continue
        built[eclass] = True
        for k in users[eclass]:
            missing[k] -= 1
            if missing[k] == 0:
                ready.append(k)
    return [tuple(k for k in ks if missing[k] == 0) for ks in snapshot.classes]


def _settle_free(problem: Problem) -> None:
    """Choose for every e-class that can be had for nothing, and strike it from the children of all others.

    Components come children first, so a choice can close a cycle only inside its component; there the e-nodes are
    taken in the order they become ready, smallest index first.
    """
    free = problem.free
    for component in problem.components:
        inside = frozenset(component)
        zero = [k for c in component for k in problem.options[c] if problem.units[k] == 0]
        zero = [k for k in zero if all(d in free or d in inside for d in problem.children[k])]
        if zero:
            _settle_component(problem, component, zero)
    problem.roots = tuple(c for c in dict.fromkeys(problem.roots) if c not in free)
    problem.options = [() if c in free else ks for c, ks in enumerate(problem.options)]
    problem.children = [tuple(d for d in ds if d not in free) if ds else ds for ds in problem.children]


def _settle_component(problem: Problem, component: Sequence[int], zero: Sequence[int]) -> None:
    owner = {k: c for c in component for k in problem.options[c]}
    missing = {k: sum(d not in problem.free for d in problem.children[k]) for k in zero}
    users: dict[int, list[int]] = {}
    for k in zero:
        for d in problem.children[k]:
            users.setdefault(d, []).append(k)
    ready = [k for k in zero if missing[k] == 0]
    heapify(ready)
    while ready:
        k = heappop(ready)
        c = owner[k]
        if c in problem.free:
            continue
        problem.free[c] = k
        for user in users.get(c, ()):
            missing[user] -= 1
            if missing[user] == 0:
                heappush(ready, user)


def _why_underivable(snapshot: Snapshot, units: Sequence[float], options: Sequence[Sequence[int]], root: int) -> str:
    """Walk down from `root`, at each e-class by its first allowed e-node, to what is missing: an op or a base case."""
    seen: set[int] = set()
    eclass, reason = root, "depends only on itself"
    while eclass not in seen:
        seen.add(eclass)
        allowed = [k for k in snapshot.classes[eclass] if units[k] < inf]
        if not allowed:
            reason = "has no e-node of finite cost"
            break
        eclass = next(d for d in snapshot.nodes[allowed[0]].children if not options[d])
    ops = ", ".join(dict.fromkeys(snapshot.nodes[k].op for k in snapshot.classes[eclass])) or "none"
    values = ", ".join(map(str, snapshot.sources.get(root, ())))
    return (
        f"expected an acyclic derivation of finite cost for root e-class {root}"
        + (f" (program values {values})" if values else "")
        + f", found none: e-class {eclass} (ops: {ops}) {reason}; give one of its ops a finite cost or add an e-node"
    )
