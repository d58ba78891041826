"""Costs as whole numbers of a unit: sums are exact in float64, and ties are ties in whatever order they are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import floor, fsum, inf, isnan, log10, ulp

from qegraph.errors import QegraphError
from qegraph.snapshot import Snapshot

DIGITS = 5
"""Decimal places of the usual unit: 10 ps, where costs are in µs."""

LARGEST = 2**34
"""Units that the dearest selection may cost: with tie-breakers of 2^-18 of a unit, sums still fit 53 bits."""


@dataclass(frozen=True)
class Units:
    """digits  a unit is 10^-digits. counts  per e-node its cost in units; inf: not allowed, or too dear for an optimum.

    excess  per e-node by how much its count overstates its cost, in the unit of the costs.
    """

    digits: int
    counts: Sequence[float]
    excess: Sequence[float]

    def cost(self, count: float) -> float:
        """What `count` units cost."""
        return count / 10.0**self.digits if self.digits >= 0 else count * 10.0**-self.digits

    def lost(self, snapshot: Snapshot, choice: Mapping[int, int]) -> float:
        """By how much `choice`, optimal in units, may exceed the optimum; 0 if all costs are whole.

        The optimum takes at most one e-node of a class, which its count overstates by at most the class's largest
        excess; `choice` costs its count less its own excess.
        """
        most = (max((self.excess[k] for k in ks), default=0.0) for ks in snapshot.classes)
        return max(0.0, fsum(max(0.0, each) for each in most) - fsum(self.excess[k] for k in choice.values()))


NOISE = 8
"""Units in the last place by which a cost may miss a whole one: 0.1 + 0.2 is 0.3."""


def whole(snapshot: Snapshot, cost: Sequence[float]) -> Units:
    """The usual unit if all costs are whole in it, else the finest power of ten that keeps sums exact.

    Where even that one rounds, e-nodes dearer than a whole solution are left out first: a cost put there to say
    "never" must not coarsen the others. Raises ValueError for a cost that is negative or NaN, or a wrong number of
    costs; QegraphError if costs are too large to be added.
    """
    _check(snapshot, cost)
    dearest = _dearest(snapshot, cost)
    if dearest < inf:
        digits = _digits(dearest)
        for trial in (DIGITS, digits) if digits >= DIGITS else (digits,):
            units = _round(cost, trial)
            if not any(units.excess):
                return units
    limit = _attainable(snapshot, cost) * (1 + 1e-9)
    cost = [inf if value > limit else value for value in cost]
    dearest = _dearest(snapshot, cost)
    if dearest == inf:
        raise QegraphError("the costs are too large to be added; scale them down")
    return _round(cost, _digits(dearest))


def _check(snapshot: Snapshot, cost: Sequence[float]) -> None:
    if len(cost) != len(snapshot.nodes):
        raise ValueError(f"expected one cost per e-node ({len(snapshot.nodes)}), found {len(cost)}")
    for node, value in zip(snapshot.nodes, cost, strict=True):
        if isnan(value) or value < 0:
            raise ValueError(f"cost of e-node {node.index} ({node.op}) must be >= 0 or inf, found {value}")


def _dearest(snapshot: Snapshot, cost: Sequence[float]) -> float:
    """No selection costs more than this."""
    return sum(max((cost[k] for k in ks if cost[k] < inf), default=0.0) for ks in snapshot.classes)


def _digits(dearest: float) -> int:
    """Decimal places of the finest unit; a scale of more than 1e300 is beyond float64."""
    if dearest == 0:
        return DIGITS
    return min(300, floor(log10(LARGEST) - log10(dearest)))


def _round(cost: Sequence[float], digits: int) -> Units:
    scale = 10.0 ** abs(digits)
    counts: list[float] = []
    excess: list[float] = []
    for value in cost:
        if value == inf:
            counts.append(inf)
            excess.append(0.0)
            continue
        count = float(round(value * scale if digits >= 0 else value / scale))
        more = (count / scale if digits >= 0 else count * scale) - value
        counts.append(count)
        excess.append(more if abs(more) > NOISE * ulp(value) else 0.0)
    return Units(digits, counts, excess)


def _attainable(snapshot: Snapshot, cost: Sequence[float]) -> float:
    """What some selection costs: the one with the cheapest dearest path down from each e-class (Knuth, "A
    generalization of Dijkstra's algorithm", Information Processing Letters 6, 1977); inf if a root has none."""
    users: list[list[int]] = [[] for _ in snapshot.classes]
    missing = [len(node.children) for node in snapshot.nodes]
    ready: list[tuple[float, int]] = []
    for node in snapshot.nodes:
        for child in node.children:
            users[child].append(node.index)
        if not node.children and cost[node.index] < inf:
            heappush(ready, (cost[node.index], node.index))
    chosen: dict[int, int] = {}
    while ready:
        path, k = heappop(ready)
        eclass = snapshot.nodes[k].eclass
        if eclass in chosen:
            continue
        chosen[eclass] = k
        for user in users[eclass]:
            missing[user] -= 1
            if missing[user] == 0 and cost[user] < inf:
                heappush(ready, (path + cost[user], user))
    used = dict.fromkeys(snapshot.roots)
    stack = list(used)
    if not all(root in chosen for root in used):
        return inf
    while stack:
        fresh = [child for child in snapshot.nodes[chosen[stack.pop()]].children if child not in used]
        used.update(dict.fromkeys(fresh))
        stack += fresh
    return sum(cost[chosen[eclass]] for eclass in used)
