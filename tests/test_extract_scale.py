"""Extraction is exact and nearly linear on e-graphs of 10,000 e-nodes, of every shape networks make."""

from __future__ import annotations

import statistics
from time import thread_time

import pytest
from egraphs import FAMILIES, EGraph, check, family, hide_ilp, limit_cells, residual_chain, solve

from qegraph.extract import extract

ROUNDS = 5
EXPONENT = 1.3
pytestmark = pytest.mark.usefixtures("no_garbage_collection")


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_and_nearly_linear(name: str) -> None:
    """Gap 0 at 10,000 e-nodes; 10 times the e-nodes take at most 10^1.3 times the time (medians, in turn)."""
    sizes = {nodes: family(name, nodes) for nodes in (1_000, 10_000)}
    times: dict[int, list[float]] = {nodes: [] for nodes in sizes}
    for _ in range(ROUNDS):
        for nodes, (snapshot, costs) in sizes.items():
            start = thread_time()
            selection = extract(snapshot, costs)
            times[nodes].append(thread_time() - start)
            check(snapshot, costs, selection)
            assert selection.method == "elimination" and selection.gap == 0
            assert abs(len(snapshot.nodes) - nodes) <= 0.02 * nodes
    short, long = (statistics.median(each) for each in times.values())
    print(f"{name}: {short:.3f} s, {long:.3f} s")
    assert long <= short * 10**EXPONENT


def test_deep_chain() -> None:
    depth = 10_000
    egraph: EGraph = [[(0.0, [])]]
    for i in range(depth):
        egraph.append([(1.0, [i])])
    selection = solve(egraph, [depth])
    assert selection.cost == depth
    assert selection.order == tuple(range(depth + 1))
    assert selection.largest_cycle <= 1


def test_deep_residual_chain_costs_each_value_once() -> None:
    assert solve(*residual_chain(10_000, fused=False)).cost == 40_000
    fused = solve(*residual_chain(10_000, fused=True))
    assert fused.cost == 5_000 * 4 + 5_000 * 3.5
    assert fused.method == "elimination"


def test_deep_residual_chain_greedily(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback doesn't double the cost at each residual either, nor take quadratic time."""
    hide_ilp(monkeypatch)
    limit_cells(monkeypatch, 1)
    times: list[float] = []
    for depth in (1_000, 10_000):
        egraph, roots = residual_chain(depth, fused=True)
        start = thread_time()
        assert solve(egraph, roots).cost == depth // 2 * 4 + depth // 2 * 3.5
        times.append(thread_time() - start)
    assert times[1] <= times[0] * 40
