"""Strongly connected components and cycles of directed graphs: no recursion, and always in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Successors = Sequence[Sequence[int]] | Mapping[int, Sequence[int]]


def strong_components(roots: Iterable[int], successors: Successors) -> list[tuple[int, ...]]:
    """Strongly connected components reachable from `roots`, children first, members ascending (Tarjan 1972)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    closed: set[int] = set()
    members: list[int] = []
    components: list[tuple[int, ...]] = []
    for root in roots:
        if root in index:
            continue
        path = [(root, iter(successors[root]))]
        index[root] = low[root] = len(index)
        members.append(root)
        while path:
            c, pending = path[-1]
            for d in pending:
                if d not in index:
                    index[d] = low[d] = len(index)
                    members.append(d)
                    path.append((d, iter(successors[d])))
                    break
                if d not in closed:
                    low[c] = min(low[c], index[d])
            else:
                path.pop()
                if path:
                    parent = path[-1][0]
                    low[parent] = min(low[parent], low[c])
                if low[c] == index[c]:
                    component = _pop_through(members, c)
                    closed.update(component)
                    components.append(component)
    return components


def _pop_through(members: list[int], last: int) -> tuple[int, ...]:
    popped = [members.pop()]
    while popped[-1] != last:
        popped.append(members.pop())
    return tuple(sorted(popped))


def find_cycles(successors: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """For each cyclic component of a graph a shortest cycle through its smallest vertex."""
    cycles: list[list[int]] = []
    for component in strong_components(successors, successors):
        if len(component) > 1:
            cycles.append(_shortest_cycle(successors, component[0], frozenset(component)))
    return cycles


def _shortest_cycle(successors: Mapping[int, Sequence[int]], start: int, inside: frozenset[int]) -> list[int]:
    before: dict[int, int] = {}
    queue = [start]
    for c in queue:
        for d in successors[c]:
            if d in inside and d not in before:
                before[d] = c
                queue.append(d)
        if start in before:
            break
    cycle = [before[start]]
    while cycle[-1] != start:
        cycle.append(before[cycle[-1]])
    return cycle[::-1]
