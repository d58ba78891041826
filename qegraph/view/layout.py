"""Where the nodes of a graph are drawn: in rows, operands above their readers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import networkx as nx

from qegraph.report import Drawn


def layout(nodes: Sequence[Drawn]) -> list[tuple[float, int]]:
    """(place in the row, row) of each node. Linear in the graph but for the sorting of its rows.

    A node is one row below its lowest operand; one without operands just above its first reader. A row is ordered by
    the places of what its nodes read, and centred around 0.
    """
    number = {node.name: at for at, node in enumerate(nodes)}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    graph.add_edges_from((number[operand], at) for at, node in enumerate(nodes) for operand in node.inputs)
    row = {at: depth for depth, generation in enumerate(nx.topological_generations(graph)) for at in generation}
    for at in graph:
        if graph.in_degree(at) == 0 and graph.out_degree(at) > 0:
            row[at] = max(0, min(row[reader] for reader in graph.successors(at)) - 1)
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for at in range(len(nodes)):
        rows[row[at]].append(at)
    place: dict[int, float] = {}
    for depth in sorted(rows):
        wanted = {at: fmean([place.get(each, 0.0) for each in graph.predecessors(at)] or [1e9]) for at in rows[depth]}
        for position, at in enumerate(sorted(rows[depth], key=lambda each: (wanted[each], each))):
            place[at] = position - (len(rows[depth]) - 1) / 2
    return [(place[at], row[at]) for at in range(len(nodes))]
