"""A good selection in near-linear time, for what elimination can't finish.

First area flow, then exact local area: the two heuristics by which technology mappers cover a circuit with shared
logic (Mishchenko, Chatterjee and Brayton, "Improvements to Technology Mapping for LUT-Based FPGAs", IEEE TCAD 2007).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from heapq import heapify, heappop, heappush
from math import inf

from qegraph.extract.problem import Problem

SWEEPS = 8
REACH = 1_000  # e-classes one trial change may touch
PATIENCE = 500  # e-classes all trial changes may touch, per e-class in play


class Cover:
    """A selection under change.

    choice  e-class -> e-node, acyclic, for all e-classes in play. uses  e-class -> how many chosen e-nodes need it.
    """

    def __init__(self, problem: Problem, must: Set[int]) -> None:
        self.problem = problem
        self.choice = area_flow(problem, must)
        self.uses = dict.fromkeys(self.choice, 0)
        for c in must:
            self.uses[c] = 1  # in every solution: no trial needs to look below
        for c in must:
            self._take(self.choice[c], inf, [])
        self.patience = PATIENCE * len(self.choice)
        self.home = {c: i for i, component in enumerate(problem.components) for c in component}

    def improve(self) -> None:
        """Exact local area: change one e-class at a time while the whole selection gets lighter."""
        candidates = [c for component in self.problem.components for c in component if len(self.problem.options[c]) > 1]
        for _ in range(SWEEPS):
            changed = False
            for c in candidates:
                if self.uses[c]:
                    for k in self.problem.options[c]:
                        changed |= k != self.choice[c] and self._try(c, k)
            if not changed or self.patience < 0:
                return

    def _try(self, c: int, k: int) -> bool:
        """Switch `c` to e-node `k` if that is acyclic and lighter. New children first: shared ones stay in use."""
        if self.patience < 0 or self._closes_cycle(c, k):
            return False
        taken: list[int] = []
        dropped: list[int] = []
        gained = self._take(k, REACH, taken)
        better = gained < inf and gained < self._drop(self.choice[c], REACH, dropped)
        self.patience -= len(taken) + len(dropped)
        if better:
            self.choice[c] = k
            return True
        for d in taken:
            self.uses[d] -= 1
        for d in dropped:
            self.uses[d] += 1
        return False

    def _take(self, k: int, reach: float, log: list[int]) -> float:
        """Weight added by using `k`; inf if more than `reach` e-classes change. `log` gets each new use."""
        added = self.problem.weight[k]
        stack = [k]
        while stack:
            for d in self.problem.children[stack.pop()]:
                self.uses[d] += 1
                log.append(d)
                if self.uses[d] == 1:
                    added += self.problem.weight[self.choice[d]]
                    stack.append(self.choice[d])
            if len(log) > reach:
                return inf
        return added

    def _drop(self, k: int, reach: float, log: list[int]) -> float:
        """Weight saved by no longer using `k`; 0 if more than `reach` e-classes change. `log` gets each lost use."""
        saved = self.problem.weight[k]
        stack = [k]
        while stack:
            for d in self.problem.children[stack.pop()]:
                self.uses[d] -= 1
                log.append(d)
                if self.uses[d] == 0:
                    saved += self.problem.weight[self.choice[d]]
                    stack.append(self.choice[d])
            if len(log) > reach:
                return 0.0
        return saved

    def _closes_cycle(self, c: int, k: int) -> bool:
        """Does `k` reach `c` through the choices? Only its own component can."""
        home = self.home[c]
        if len(self.problem.components[home]) == 1:
            return False
        seen = {c}
        stack = [k]
        while stack:
            for d in self.problem.children[stack.pop()]:
                if d == c:
                    return True
                if self.home[d] == home and d not in seen:
                    seen.add(d)
                    stack.append(self.choice[d])
            if len(seen) > REACH:
                break
        self.patience -= len(seen)
        return len(seen) > REACH


def area_flow(problem: Problem, must: Set[int]) -> dict[int, int]:
    """e-class -> e-node k minimising flow(k) = weight(k) + Σ over children d not in `must` of flow(d) / users(d).

    Sharing the weight among the e-classes that could use it keeps residual chains from doubling. In a cyclic component
    e-classes are settled in the order of their flow, each by children already settled: acyclic by construction.
    """
    users = [0] * len(problem.options)
    for component in problem.components:
        for c in component:
            for d in problem.successors[c]:
                users[d] += 1
    share = [0.0] * len(problem.options)
    choice: dict[int, int] = {}

    def settle(c: int, k: int, flow: float) -> None:
        choice[c] = k
        share[c] = 0.0 if c in must else flow / max(1, users[c])

    for component in problem.components:
        if len(component) == 1:
            (c,) = component
            flow, k = min((_flow(problem, share, k), k) for k in problem.options[c])
            settle(c, k, flow)
            continue
        for c, k, flow in _settle_order(problem, share, component, choice):
            settle(c, k, flow)
    return choice


def _flow(problem: Problem, share: Sequence[float], k: int) -> float:
    return problem.weight[k] + sum(share[d] for d in problem.children[k])


def _settle_order(problem: Problem, share: Sequence[float], component: Sequence[int], choice: dict[int, int]):
    """Yield (e-class, e-node, flow), cheapest flow first; the caller stores each before asking for the next."""
    inside = frozenset(component)
    owner = {k: c for c in component for k in problem.options[c]}
    missing = {k: sum(d in inside for d in problem.children[k]) for k in owner}
    users: dict[int, list[int]] = {c: [] for c in component}
    for k in owner:
        for d in problem.children[k]:
            if d in inside:
                users[d].append(k)
    ready = [(_flow(problem, share, k), k) for k in owner if missing[k] == 0]
    heapify(ready)
    while ready:
        flow, k = heappop(ready)
        c = owner[k]
        if c in choice:
            continue
        yield c, k, flow
        for user in users[c]:
            missing[user] -= 1
            if missing[user] == 0:
                heappush(ready, (_flow(problem, share, user), user))
