"""Tables that forbid cyclic choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import islice
from math import prod

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from qegraph.extract.problem import Problem

MAX_CYCLES = 100
"""Simple cycles of a block that get a table each: a complete graph of 5 e-classes has 84, one of 6 has 409."""

MAX_CELLS = 1 << 18
"""Cells of one table."""

Table = NDArray[np.float64]
States = Mapping[int, tuple[int, ...]]
Entry = tuple[tuple[int, ...], Table]  # variables, inf where their states close a cycle


def acyclicity(problem: Problem, component: Sequence[int], states: States) -> tuple[list[Entry], bool]:
    """Tables that forbid the cycles of a strongly connected component, and whether these are all.

    A simple cycle stays inside one biconnected block, so components that are trees of small blocks (pairs of inverse
    views, one after the other) cost no more than their blocks. Per block: a table for each simple cycle, or if these
    are too many one for the whole block, or if that is too large only tables for the cycles of length two.
    """
    inside = frozenset(component)
    edges = [(c, d) for c in component for d in problem.successors[c] if d in inside]
    graph: nx.DiGraph[int] = nx.DiGraph(edges)
    entries: list[Entry] = []
    complete = True
    for block in _blocks(graph):
        few = _listed(problem, graph, block, states)
        if few is not None:
            entries += few
        elif prod(len(states[c]) for c in block if c in states) <= MAX_CELLS:
            entries.append(_forbid_all(problem, block, states))
        else:
            complete = False
            members = frozenset(block)
            pairs = [
                (c, d) for c in block for d in problem.successors[c] if c < d and d in members and graph.has_edge(d, c)
            ]
            entries += [entry for pair in pairs if (entry := forbid(problem, pair, states)) is not None]
    return entries, complete


def _blocks(graph: nx.DiGraph[int]) -> list[list[int]]:
    """Biconnected components of the undirected graph, each ascending."""
    blocks: list[set[int]] = list(nx.biconnected_components(graph.to_undirected(as_view=True)))  # pyright: ignore[reportAssignmentType]
    return sorted(sorted(block) for block in blocks)


def _listed(problem: Problem, graph: nx.DiGraph[int], block: Sequence[int], states: States) -> list[Entry] | None:
    """One table for each simple cycle of the block; None if they are too many or too large."""
    if len(block) == 2:
        cycles = [list(block)] if graph.has_edge(*block) and graph.has_edge(*reversed(block)) else []
    else:
        cycles = list(islice(nx.simple_cycles(graph.subgraph(block)), MAX_CYCLES + 1))
    if len(cycles) > MAX_CYCLES:
        return None
    entries = [forbid(problem, cycle, states) for cycle in sorted(map(_from_smallest, cycles))]
    return None if None in entries else [entry for entry in entries if entry is not None]


def _from_smallest(cycle: list[int]) -> list[int]:
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


def forbid(problem: Problem, cycle: Sequence[int], states: States) -> Entry | None:
    """inf where every e-class on the cycle chooses an e-node with the next one as a child. None: too many cells."""
    variables = tuple(sorted(c for c in cycle if c in states))
    if prod(len(states[c]) for c in variables) > MAX_CELLS:
        return None
    takes = {c: _takes(problem, c, d, states) for c, d in zip(cycle, (*cycle[1:], cycle[0]), strict=True)}
    if not all(takes[c].any() for c in cycle):
        return variables, np.zeros([len(states[c]) for c in variables])
    closed = reduce(np.logical_and.outer, [takes[c] for c in variables])
    return variables, np.where(closed, np.inf, 0.0)


def _forbid_all(problem: Problem, block: Sequence[int], states: States) -> Entry:
    """inf where some e-class of the block reaches a cycle inside it: the greatest fixpoint of "has such a child"."""
    variables = tuple(c for c in block if c in states)
    axis = {c: i for i, c in enumerate(variables)}
    shape = [len(states[c]) for c in variables]
    takes: dict[int, list[tuple[int, NDArray[np.bool_]]]] = {c: [] for c in block}
    for c in block:
        along = [shape[i] if axis.get(c) == i else 1 for i in range(len(shape))]
        takes[c] = [
            (d, _takes(problem, c, d, states).reshape(along)) for d in block if d != c and d in problem.successors[c]
        ]
    cyclic = {c: np.ones(shape, dtype=np.bool_) for c in block}
    for _ in block:
        for c in block:
            reaches = np.zeros(shape, dtype=np.bool_)
            for d, taken in takes[c]:
                reaches |= taken & cyclic[d]
            cyclic[c] = reaches
    return variables, np.where(reduce(np.logical_or, cyclic.values()), np.inf, 0.0)


def _takes(problem: Problem, c: int, d: int, states: States) -> NDArray[np.bool_]:
    """Per state of `c` (one if it has no choice): is `d` a child?"""
    return np.array([k >= 0 and d in problem.children[k] for k in states.get(c, problem.options[c])])
