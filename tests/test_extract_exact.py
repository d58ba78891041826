"""Extraction is optimal where it says so, cycles and sharing or not: against brute force and known optima."""

from __future__ import annotations

from collections import Counter

import pytest
from egraphs import (
    EGraph,
    Option,
    compare_with_brute_force,
    freeze,
    hide_ilp,
    inverse_views,
    limit_cells,
    naming,
    random_egraph,
    shared_float_values,
    solve,
)

from qegraph.extract import Selection, cycles, landmarks
from qegraph.snapshot import Snapshot

SEEDS = range(2400)


def shares(snapshot: Snapshot, selection: Selection) -> bool:
    """Is a chosen value used more than once?"""
    uses = Counter(d for k in selection.choice.values() for d in snapshot.nodes[k].children)
    return any(count > 1 for count in uses.values())


def test_agrees_with_brute_force() -> None:
    """On 2,400 random e-graphs: 1,789 have a solution; of these 289 keep a cycle after pruning, 344 have an optimum
    with a shared value, 89 both."""
    met: Counter[str] = Counter()
    for seed in SEEDS:
        with naming(seed):
            selection = compare_with_brute_force(seed)
            if selection is None:
                continue
            assert selection.method == "elimination"
            snapshot, _ = freeze(*random_egraph(seed))
            cyclic, sharing = selection.largest_cycle > 1, shares(snapshot, selection)
            met.update({"solved": 1, "cyclic": cyclic, "sharing": sharing, "both": cyclic and sharing})
    print(dict(met))
    assert met["solved"] >= 1500 and met["cyclic"] >= 200 and met["sharing"] >= 200 and met["both"] >= 50


@pytest.mark.parametrize("cells", [1, 3, 12])
def test_greedy_and_its_bound_are_sound(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables too small to be of use the answer stays valid and the bound stays below the optimum."""
    hide_ilp(monkeypatch)
    limit_cells(monkeypatch, cells)
    monkeypatch.setattr(cycles, "MAX_CYCLES", cells)
    monkeypatch.setattr(cycles, "MAX_CELLS", 4 * cells)
    methods: set[str] = set()
    for seed in range(400):
        with naming(seed):
            selection = compare_with_brute_force(seed)
            if selection is not None:
                methods.add(selection.method)
    assert "greedy" in methods


@pytest.mark.parametrize("cycles_listed", [0, 100])
def test_weak_landmarks_and_block_tables(cycles_listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing some landmarks, or one table per block instead of one per cycle, costs time but not the optimum."""
    monkeypatch.setattr(landmarks, "ROUNDS", 1)
    monkeypatch.setattr(cycles, "MAX_CYCLES", cycles_listed)
    for seed in [5065, *range(2000, 2300)]:
        with naming(seed):
            selection = compare_with_brute_force(seed)
            assert selection is None or selection.method == "elimination"


def test_two_class_cycles() -> None:
    selection = solve(*inverse_views(2_000))
    assert selection.cost == 1_000 * (2.5 + 0.25 + 1) + 1_000 * (2.5 + 1)
    assert selection.method == "elimination"
    assert selection.largest_cycle == 2


def test_long_chain_of_inverse_views_is_one_large_cycle_and_still_exact() -> None:
    """a₀ ⇄ a₁ ⇄ … in one component of 300 e-classes, a source at every hundredth: its cycles are all of length two."""
    size = 300
    egraph: EGraph = []
    for i in range(size):
        views: list[Option] = [(1.0, [d]) for d in (i - 1, i + 1) if 0 <= d < size]
        egraph.append(views)
        if i % 100 == 50:
            views.append((5.0, []))
    selection = solve(egraph, [0, 149, 299])
    assert selection.largest_cycle >= 100
    assert selection.method == "elimination"
    assert selection.cost == (5 + 50) + (5 + 1) + (5 + 49)


@pytest.mark.parametrize("clique", [3, 6, 7, 10])
def test_cliques_of_views(clique: int) -> None:
    """Any of `clique` shapes of a value from any other by a view; one base each. All are wanted: one base is paid."""
    egraph: EGraph = []
    for block in range(5):
        base = len(egraph)
        members = range(base, base + clique)
        for c in members:
            views: list[Option] = [(0.5, [d]) for d in members if d != c]
            egraph.append([*views, (4.0 + (c + 2 * block) % clique / 10, [])])
    selection = solve(egraph, range(len(egraph)))
    assert selection.largest_cycle == clique
    assert selection.cost == pytest.approx(5 * (4.0 + (clique - 1) * 0.5))
    if clique <= 6:
        assert selection.method == "elimination"


def test_ring_of_views_too_long_for_a_table() -> None:
    """a₀ ⇄ a₁ ⇄ … ⇄ a₀: the two long cycles can't be tabulated, yet no optimum contains them."""
    size = 60
    egraph: EGraph = []
    for i in range(size):
        egraph.append([(1.0, [(i - 1) % size]), (1.0, [(i + 1) % size])])
        if i % 20 == 0:
            egraph[i].append((3.0, []))
    selection = solve(egraph, [5, 30, 55])
    assert selection.cost == (3 + 5) + (3 + 10) + (0 + 5)
    assert selection.method == "elimination"


def test_shared_value_is_computed_once() -> None:
    selection = solve(*shared_float_values(500))
    assert selection.cost == 500 * 13
    assert selection.method == "elimination"


def test_shared_value_is_absorbed_when_that_is_cheaper() -> None:
    egraph, _ = shared_float_values(1)
    assert solve(egraph, [2]).cost == 10.5
