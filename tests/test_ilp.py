"""Integer programming where elimination gives up: as good as brute force, and honest about what it can't prove."""

from __future__ import annotations

from collections import Counter
from time import monotonic

import pytest
from egraphs import compare_with_brute_force, dense_blocks, hide_ilp, limit_cells, naming, solve, tangle

from qegraph.extract import cycles, ilp
from qegraph.extract.program import Program

pytest.importorskip("highspy")


def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither elimination nor tables against cycles are of any use."""
    limit_cells(monkeypatch, 2)
    monkeypatch.setattr(cycles, "MAX_CYCLES", 0)
    monkeypatch.setattr(cycles, "MAX_CELLS", 2)


def test_agrees_with_brute_force(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every random e-graph is proven optimal, a good part of them by HiGHS, many of those with cycles."""
    no_tables(monkeypatch)
    met: Counter[str] = Counter()
    for seed in range(900):
        with naming(seed):
            selection = compare_with_brute_force(seed)
            if selection is not None:
                assert selection.notes == () and selection.method in ("elimination", "ilp")
                by_ilp = selection.method == "ilp"
                met.update({"solved": 1, "by ilp": by_ilp, "cyclic": by_ilp and selection.largest_cycle > 1})
    assert met["by ilp"] >= 100 and met["cyclic"] >= 60, met
    assert capfd.readouterr() == ("", "")


def test_proves_what_is_too_wide_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    egraph, roots = tangle(32)
    exact = solve(egraph, roots)
    assert exact.method == "elimination"
    limit_cells(monkeypatch, 64)
    selection = solve(egraph, roots)
    assert selection.method == "ilp" and selection.gap == 0
    assert selection.cost == pytest.approx(exact.cost)
    assert solve(egraph, roots).choice == selection.choice
    hide_ilp(monkeypatch)
    assert solve(egraph, roots).gap > 0


def test_improves_the_bound_and_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its nodes the search can't finish: better than nothing, and it says so."""
    egraph, roots = tangle(200)
    limit_cells(monkeypatch, 8)
    monkeypatch.setattr(ilp, "NODES", 1)
    selection = solve(egraph, roots)
    start = monotonic()
    hasty = solve(egraph, roots, time_limit=0.2)
    assert monotonic() - start < 20
    hide_ilp(monkeypatch)
    greedy = solve(egraph, roots)
    assert greedy.method == "greedy"
    assert greedy.lower_bound <= selection.lower_bound <= selection.cost <= greedy.cost
    assert hasty.cost <= greedy.cost
    for each in (selection, hasty):
        assert each.gap == 0 or any("did not finish" in note or "greedily" in note for note in each.notes)


def test_dense_blocks_without_wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    egraph, roots = dense_blocks(60)
    exact = solve(egraph, roots)
    limit_cells(monkeypatch, 4)
    selection = solve(egraph, roots)
    assert selection.method == "ilp" and selection.gap == 0
    assert selection.cost == pytest.approx(exact.cost)


def test_what_the_solver_says_is_evaluated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are no solution don't become the choice, however good the solver thinks they are."""
    egraph, roots = tangle(120)
    limit_cells(monkeypatch, 64)

    def lies(program: Program, *_: object) -> tuple[bool, list[float], float]:
        return True, [0.0] * len(program.costs), float("-inf")

    monkeypatch.setattr(ilp, "_run", lies)
    selection = solve(egraph, roots)
    assert selection.method == "greedy" and selection.gap > 0
