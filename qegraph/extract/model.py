"""`Model`: the undecided e-classes as variables, and small tables whose sum is the weight of a selection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qegraph.extract.cycles import acyclicity
from qegraph.extract.problem import Problem

Table = NDArray[np.float64]
UNUSED = -1


@dataclass(frozen=True)
class Factor:
    """`table[s]` is the weight if the variables take the states `s`; inf if they must not."""

    variables: tuple[int, ...]
    table: Table


@dataclass(frozen=True)
class Part:
    """One connected component of the model: can be solved on its own.

    unguarded  e-classes, decided ones too, of components with too many cycles to forbid up front: a solution of the
               factors may be cyclic among them.
    """

    variables: tuple[int, ...]
    factors: tuple[Factor, ...]
    unguarded: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """decided  e-class -> e-node where no choice is left. states  e-class -> e-nodes (or `UNUSED`) it can take."""

    decided: Mapping[int, int]
    states: Mapping[int, tuple[int, ...]]
    parts: tuple[Part, ...]


def build(problem: Problem, must: Set[int]) -> Model:
    """Variables are the e-classes with a choice; those not in `must` can also stay unused.

    Factors: the weight of each state; "chosen ⇒ child used" for every child not in `must`; no cycle.
    """
    decided: dict[int, int] = {}
    states: dict[int, tuple[int, ...]] = {}
    for component in problem.components:
        for c in component:
            if c not in must:
                states[c] = (UNUSED, *problem.options[c])
            elif len(problem.options[c]) > 1:
                states[c] = problem.options[c]
            else:
                decided[c] = problem.options[c][0]
    factors = [factor for c in states for factor in _factors_of(problem, must, states, c)]
    unguarded: list[tuple[int, ...]] = []
    for component in problem.components:
        if len(component) > 1:
            entries, complete = acyclicity(problem, component, states)
            factors += [Factor(variables, table) for variables, table in entries if variables]
            if not complete:
                unguarded.append(component)
    return Model(decided, states, _split(states, factors, unguarded))


def _factors_of(problem: Problem, must: Set[int], states: Mapping[int, tuple[int, ...]], c: int) -> list[Factor]:
    mine = states[c]
    factors = [Factor((c,), np.array([0.0 if k == UNUSED else problem.weight[k] for k in mine]))]
    users: dict[int, list[int]] = {}
    for state, k in enumerate(mine):
        if k != UNUSED:
            for d in problem.children[k]:
                if d not in must:
                    users.setdefault(d, []).append(state)
    for d, rows in users.items():
        table = np.zeros((len(mine), len(states[d])))
        table[rows, 0] = np.inf
        factors.append(Factor((c, d), table))
    return factors


def _split(
    states: Mapping[int, tuple[int, ...]], factors: Sequence[Factor], unguarded: Sequence[tuple[int, ...]]
) -> tuple[Part, ...]:
    """Connected components, in the order of their smallest e-class. An unguarded component stays in one part."""
    part_of = _Forest(states)
    for factor in factors:
        part_of.join(factor.variables)
    entangled = [(tuple(c for c in component if c in states), component) for component in unguarded]
    for variables, _ in entangled:
        part_of.join(variables)
    members: dict[int, list[int]] = {}
    for c in sorted(states):
        members.setdefault(part_of.top(c), []).append(c)
    tables: dict[int, list[Factor]] = {top: [] for top in members}
    for factor in factors:
        tables[part_of.top(factor.variables[0])].append(factor)
    loops: dict[int, list[int]] = {top: [] for top in members}
    for variables, component in entangled:
        loops[part_of.top(variables[0])] += component
    return tuple(Part(tuple(members[top]), tuple(tables[top]), tuple(loops[top])) for top in members)


class _Forest:
    """Disjoint sets; the smallest member stands for each."""

    def __init__(self, members: Iterable[int]) -> None:
        self.parent = {c: c for c in members}

    def top(self, c: int) -> int:
        parent = self.parent
        while parent[c] != c:
            parent[c] = parent[parent[c]]
            c = parent[c]
        return c

    def join(self, members: Sequence[int]) -> None:
        for other in members[1:]:
            first, second = sorted((self.top(members[0]), self.top(other)))
            self.parent[second] = first
