"""In which order the selected e-nodes are emitted, and which values nothing reads afterwards.

The order is the source's wherever data allows: a topological order by first source value, effects in source order.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from qegraph.extract import Selection
from qegraph.ops import WORDS
from qegraph.snapshot import Snapshot


@dataclass(frozen=True)
class Schedule:
    """The order of emission.

    order      e-classes, operands first.
    last_read  e-class -> position of its last reader, itself or through a view.
    shared     e-classes that more than one selected e-node reads, or that are roots as well.
    """

    order: tuple[int, ...]
    last_read: Mapping[int, int]
    shared: frozenset[int]


def schedule(snapshot: Snapshot, selection: Selection, effects: tuple[int, ...]) -> Schedule:
    readers: defaultdict[int, list[int]] = defaultdict(list)
    waiting: dict[int, int] = {}
    for eclass in selection.order:
        children = snapshot.nodes[selection.choice[eclass]].children
        waiting[eclass] = len(children)
        for child in children:
            readers[child].append(eclass)
    for first, second in pairwise(effects):
        readers[first].append(second)
        waiting[second] += 1
    keys = _keys(snapshot, selection, readers)
    ready = [(keys[eclass], eclass) for eclass in selection.order if not waiting[eclass]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, eclass = heapq.heappop(ready)
        order.append(eclass)
        for reader in readers[eclass]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, (keys[reader], reader))
    roots = set(snapshot.roots)
    shared = frozenset(eclass for eclass in order if len(readers[eclass]) + (eclass in roots) > 1)
    return Schedule(tuple(order), _last_reads(snapshot, selection, order, readers), shared)


def _keys(snapshot: Snapshot, selection: Selection, readers: Mapping[int, list[int]]) -> dict[int, float]:
    """First source value; a value that rules introduced comes just before its first reader."""
    keys: dict[int, float] = {}
    for eclass in reversed(selection.order):
        sources = snapshot.sources.get(eclass)
        inherited = min((keys[reader] for reader in readers.get(eclass, ()) if reader in keys), default=0.0) - 0.25
        keys[eclass] = float(sources[0]) if sources else inherited
    return keys


def _last_reads(
    snapshot: Snapshot, selection: Selection, order: list[int], readers: Mapping[int, list[int]]
) -> dict[int, int]:
    """Results that may share memory with their operand (views, opaque calls) are read on its behalf."""
    position = {eclass: index for index, eclass in enumerate(order)}
    roots = set(snapshot.roots)
    last: dict[int, int] = {}
    for eclass in reversed(order):
        latest = len(order) if eclass in roots else position[eclass]
        for reader in readers.get(eclass, ()):
            shares = not WORDS[snapshot.nodes[selection.choice[reader]].op].fresh
            latest = max(latest, last[reader] if shares else position[reader])
        last[eclass] = latest
    return last
