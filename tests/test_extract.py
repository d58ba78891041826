"""What `extract` returns and refuses: a valid selection, always the same, whatever the costs and the time."""

from __future__ import annotations

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from egraphs import (
    EGraph,
    Option,
    brute_force,
    check,
    dense_blocks,
    freeze,
    hide_ilp,
    inverse_views,
    limit_cells,
    naming,
    random_egraph,
    residual_chain,
    shared_float_values,
    solve,
    tangle,
)

from qegraph.errors import QegraphError
from qegraph.extract import extract
from qegraph.extract.units import whole

TEST_PATH = (str(Path(__file__).parent), str(Path(__file__).parent.parent))


def test_one_wide_part_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    egraph, roots = shared_float_values(200)
    easy = solve(egraph, roots)
    base = len(egraph)
    wide, ends = tangle(120)
    moved: EGraph = [[(cost, [base + d for d in children]) for cost, children in options] for options in wide]
    egraph += moved
    roots += [base + end for end in ends]
    hide_ilp(monkeypatch)
    limit_cells(monkeypatch, 64)
    selection = solve(egraph, roots)
    assert selection.method == "greedy"
    assert len(selection.notes) == 1
    assert all(selection.choice[c] == k for c, k in easy.choice.items())


@pytest.mark.parametrize("name", ["without", "with"])
def test_out_of_time_is_still_sound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time at all, with and without HiGHS: a valid selection, and a bound below the optimum."""
    if name == "without":
        hide_ilp(monkeypatch)
    egraph, roots = tangle(32)
    best = solve(egraph, roots)
    assert best.method == "elimination"
    hasty = solve(egraph, roots, time_limit=0.0)
    assert hasty.lower_bound <= best.cost <= hasty.cost
    assert hasty.gap > 0 and "out of time" in hasty.notes[0]
    for seed in range(200):
        with naming(seed):
            snapshot, costs = freeze(*random_egraph(seed))
            least = brute_force(snapshot, costs)
            if least < inf:
                selection = extract(snapshot, costs, time_limit=0.0)
                check(snapshot, costs, selection)
                assert selection.lower_bound <= least + 1e-9 and least <= selection.cost + 1e-9


def test_result_depends_on_nothing_but_the_input() -> None:
    script = "import test_extract; print(test_extract.fingerprint())"
    for seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((*TEST_PATH, *sys.path))}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
        )
        assert run.stdout == f"{fingerprint()}\n"


def fingerprint() -> int:
    """A number that depends on every choice and every order in some hundred solutions."""
    problems = [residual_chain(50, True), shared_float_values(20), inverse_views(20), dense_blocks(20)]
    problems += [random_egraph(seed) for seed in range(200)]
    answers: list[tuple[tuple[int, int], ...]] = []
    for egraph, roots in problems:
        snapshot, costs = freeze(egraph, roots)
        try:
            selection = extract(snapshot, costs)
        except QegraphError:
            continue
        answers.append(tuple((c, selection.choice[c]) for c in selection.order))
    return hash(tuple(answers))


def test_roots_share() -> None:
    egraph: EGraph = [[(0.0, [])], [(4.0, [0])], [(1.0, [1]), (4.5, [0])], [(1.0, [1]), (4.5, [0])]]
    assert solve(egraph, [2]).cost == 4.5
    assert solve(egraph, [2, 3]).cost == 6
    assert solve(egraph, [3, 2, 3]).cost == 6
    assert solve(egraph, []).choice == {}


def test_ties_prefer_the_source_program() -> None:
    """Equal cost: relu(gemm) as written (3 + 2) stays, though the fused op (5) needs fewer e-nodes."""
    written: EGraph = [[(0.0, [])], [(3.0, [0])], [(2.0, [1]), (5.0, [0])]]
    assert solve(written, [2]).choice == {0: 0, 1: 1, 2: 2}
    decimals: EGraph = [[(0.0, [])], [(0.1, [0])], [(0.2, [1]), (0.3, [0])], [(0.7, [2]), (0.7, [2, 0])]]
    assert solve(decimals, [3]).choice == {0: 0, 1: 1, 2: 2, 3: 4}


def test_infinite_cost_is_avoided() -> None:
    egraph: EGraph = [[(0.0, [])], [(inf, [0]), (7.0, [0])], [(1.0, [1]), (inf, [])]]
    assert solve(egraph, [2]).cost == 8


def test_underivable_root_is_named_with_the_cause() -> None:
    nothing_allowed: EGraph = [[(0.0, [])], [(inf, [0])], [(1.0, [1, 0])]]
    with pytest.raises(QegraphError, match=r"root e-class 2.*e-class 1 \(ops: op1\) has no e-node of finite cost"):
        solve(nothing_allowed, [0, 2])
    only_itself: EGraph = [[(1.0, [1])], [(1.0, [0])]]
    with pytest.raises(QegraphError, match=r"root e-class 1.*depends only on itself"):
        solve(only_itself, [1])


def test_bad_costs_are_rejected() -> None:
    snapshot, _ = freeze([[(0.0, [])]], [0])
    for costs in ([-1.0], [float("nan")], []):
        with pytest.raises(ValueError, match="cost"):
            extract(snapshot, costs)
    with pytest.raises(QegraphError, match="too large"):
        solve([[(1e308, [])], [(1e308, [0])]], [1])


@pytest.mark.parametrize("factor", [1e-280, 1e-12, 1e-3, 1.0, 1e6, 1e12, 1e290])
def test_costs_of_any_size(factor: float) -> None:
    """Scaled costs give the same choice and the scaled cost, without a gap."""
    for seed in range(100):
        with naming(seed):
            snapshot, costs = freeze(*random_egraph(seed))
            if brute_force(snapshot, costs) == inf:
                continue
            plain = extract(snapshot, costs)
            scaled = extract(snapshot, [cost * factor for cost in costs])
            assert scaled.choice == plain.choice
            assert scaled.cost == pytest.approx(plain.cost * factor)
            assert scaled.gap <= 1e-9


def test_costs_of_very_different_sizes() -> None:
    """A cost that says "never" doesn't coarsen the others, even where they can't be whole."""
    third = 1 / 3
    egraph: EGraph = [[(0.0, [])], [(1e30, [0]), (third, [0])], [(1e30, [1]), (2 * third, [1]), (0.7 + third, [0])]]
    selection = solve(egraph, [2])
    assert selection.choice == {0: 0, 1: 2, 2: 4}
    assert selection.cost == pytest.approx(1.0)
    assert 0 < selection.gap < 1e-9 and "rounded to 1e-10" in selection.notes[0]
    assert solve([[(1e30, [])]], [0]).cost == 1e30


def test_rounded_costs_keep_the_bound_honest() -> None:
    """Small differences are lost beside a large cost that can't be avoided; the bound says so."""
    small: list[Option] = [(1.0 + i / 7e13, []) for i in (3, 2, 1, 0)]
    selection = solve([[(1e13 / 7, [])], small, [(1.0, [0, 1])]], [2])
    assert selection.lower_bound <= 1e13 / 7 + 2
    assert selection.lower_bound == pytest.approx(selection.cost, rel=1e-9)
    assert selection.notes


def test_units() -> None:
    snapshot, _ = freeze([[(0.0, [])], [(0.0, [0])]], [1])
    assert whole(snapshot, [0.25, 3.0]).counts == [25_000, 300_000]
    assert whole(snapshot, [0.1, 0.1 + 0.2]).excess == [0, 0]
    assert whole(snapshot, [1e-9, 3e-9]).cost(1) < 1e-9
    assert whole(snapshot, [1e9, 3e20]).cost(1) > 1
    assert whole(snapshot, [0.0, inf]).counts == [0, inf]
