"""Extraction: optimal where it says so, acyclic always, linear in the depth of the graph."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import perf_counter

import pytest

from qegraph.errors import QegraphError
from qegraph.extract import Selection, cycles, extract, landmarks
from qegraph.extract import solve as solve_module
from qegraph.snapshot import ClassRef, ENode, Snapshot

TEST_PATH = (str(Path(__file__).parent), str(Path(__file__).parent.parent))

Option = tuple[float, Sequence[int]]  # cost, children
EGraph = list[list[Option]]  # per e-class its e-nodes


def freeze(egraph: EGraph, roots: Sequence[int]) -> tuple[Snapshot, list[float]]:
    """A snapshot and its costs; e-nodes are numbered class by class."""
    nodes: list[ENode] = []
    costs: list[float] = []
    classes: list[tuple[int, ...]] = []
    for c, options in enumerate(egraph):
        classes.append(tuple(range(len(nodes), len(nodes) + len(options))))
        for cost, children in options:
            args = tuple(ClassRef(d) for d in children)
            nodes.append(ENode(len(nodes), c, f"op{c}", args, tuple(dict.fromkeys(children))))
            costs.append(cost)
    return Snapshot(tuple(nodes), tuple(classes), tuple(roots)), costs


def solve(egraph: EGraph, roots: Sequence[int], time_limit: float | None = None) -> Selection:
    snapshot, costs = freeze(egraph, roots)
    selection = extract(snapshot, costs, time_limit=time_limit)
    check(snapshot, costs, selection)
    return selection


def check(snapshot: Snapshot, costs: Sequence[float], selection: Selection) -> None:
    """The invariants of `Selection`, independently of the code that established them."""
    position = {c: i for i, c in enumerate(selection.order)}
    assert len(position) == len(selection.order)
    assert set(position) == set(selection.choice)
    used = set(snapshot.roots)
    for c, k in selection.choice.items():
        assert k in snapshot.classes[c]
        for d in snapshot.nodes[k].children:
            assert position[d] < position[c]
            used.add(d)
    assert used == set(selection.choice)
    assert selection.cost == pytest.approx(sum(costs[k] for k in selection.choice.values()), abs=1e-6)
    assert 0 <= selection.lower_bound <= selection.cost
    assert (selection.gap == 0) == (selection.notes == ())
    if selection.method == "elimination":
        assert selection.gap == 0


def brute_force(snapshot: Snapshot, costs: Sequence[float]) -> float:
    """Least cost over all acyclic selections, by trying every e-node of every needed e-class."""
    best = inf

    def grow(choice: dict[int, int], open_classes: Sequence[int], spent: float) -> None:
        nonlocal best
        pending = [c for c in open_classes if c not in choice]
        if not pending:
            if is_acyclic(snapshot, choice):
                best = min(best, spent)
            return
        for k in snapshot.classes[pending[0]]:
            grow({**choice, pending[0]: k}, [*pending[1:], *snapshot.nodes[k].children], spent + costs[k])

    grow({}, snapshot.roots, 0.0)
    return best


def is_acyclic(snapshot: Snapshot, choice: dict[int, int]) -> bool:
    left = set(choice)
    while leaves := {c for c in left if left.isdisjoint(snapshot.nodes[choice[c]].children)}:
        left -= leaves
    return not left


def random_egraph(seed: int) -> tuple[EGraph, list[int]]:
    """Up to 9 e-classes with sharing; cycles, self loops, forbidden and free e-nodes, one or two roots."""
    r = random.Random(seed)
    size = r.randint(2, 9)
    cyclic = seed % 3 != 0
    egraph: EGraph = []
    for c in range(size):
        pool = range(size) if cyclic else range(c + 1, size)
        egraph.append(
            [
                (
                    r.choice([0, 0, 1, 2, 3, 5, 8, r.choice([0.5, 0.1, inf])]),
                    r.sample(pool, min(len(pool), r.randint(0, 3))),
                )
                for _ in range(r.randint(1, 4))
            ]
        )
    return egraph, r.sample(range(size), r.randint(1, 2))


@contextmanager
def naming(seed: int) -> Generator[None, None, None]:
    """Name the seed in any failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"random_egraph({seed})")
        raise


def compare_with_brute_force(seed: int) -> Selection | None:
    """Check a random e-graph; None if it has no solution and `extract` says so."""
    snapshot, costs = freeze(*random_egraph(seed))
    best = brute_force(snapshot, costs)
    if best == inf:
        with pytest.raises(QegraphError, match="e-class"):
            extract(snapshot, costs)
        return None
    selection = extract(snapshot, costs)
    check(snapshot, costs, selection)
    assert selection.lower_bound <= best + 1e-6
    assert selection.cost >= best - 1e-6
    if selection.method == "elimination":
        assert selection.cost == pytest.approx(best, abs=1e-6)
    return selection


@pytest.mark.parametrize("block", range(8))
def test_agrees_with_brute_force(block: int) -> None:
    feasible = 0
    for seed in range(block * 150, (block + 1) * 150):
        with naming(seed):
            selection = compare_with_brute_force(seed)
            if selection is not None:
                feasible += 1
                assert selection.method == "elimination"
    assert feasible >= 75


@pytest.mark.parametrize("cells", [1, 3, 12])
def test_greedy_and_its_bound_are_sound(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables too small to be of use the answer stays valid and the bound stays below the optimum."""
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


def limit_cells(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Make elimination give up on tables above `cells`."""
    monkeypatch.setattr(solve_module, "EASY_CELLS", cells)
    monkeypatch.setattr(solve_module, "HARD_CELLS", cells)


@pytest.mark.parametrize("cycles_listed", [0, 100])
def test_weak_landmarks_and_block_tables(cycles_listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing some landmarks, or one table per block instead of one per cycle, costs time but not the optimum."""
    monkeypatch.setattr(landmarks, "ROUNDS", 1)
    monkeypatch.setattr(cycles, "MAX_CYCLES", cycles_listed)
    for seed in [5065, *range(2000, 2300)]:
        with naming(seed):
            selection = compare_with_brute_force(seed)
            assert selection is None or selection.method == "elimination"


def test_deep_chain() -> None:
    depth = 10_000
    egraph: EGraph = [[(0.0, [])]]
    for i in range(depth):
        egraph.append([(1.0, [i])])
    start = perf_counter()
    selection = solve(egraph, [depth])
    assert perf_counter() - start < 2
    assert selection.cost == depth
    assert selection.order == tuple(range(depth + 1))
    assert selection.largest_cycle <= 1


def residual_chain(depth: int, fused: bool = True) -> tuple[EGraph, list[int]]:
    """x ← add(f(x), x); with `fused`, every other add can also be had with f inside, for 3.5 instead of 3 + 1."""
    egraph: EGraph = [[(0.0, [])]]
    for i in range(depth):
        x = len(egraph) - 1
        egraph.append([(3.0, [x])])
        fusion: list[Option] = [(3.5, [x])] if fused and i % 2 else []
        egraph.append([(1.0, [x + 1, x]), *fusion])
    return egraph, [len(egraph) - 1]


def test_deep_residual_chain_costs_each_value_once() -> None:
    assert solve(*residual_chain(10_000, fused=False)).cost == 40_000
    fused = solve(*residual_chain(10_000, fused=True))
    assert fused.cost == 5_000 * 4 + 5_000 * 3.5
    assert fused.method == "elimination"


def test_deep_residual_chain_greedily(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback doesn't double the cost at each residual either, nor take quadratic time."""
    limit_cells(monkeypatch, 1)
    egraph, roots = residual_chain(10_000, fused=True)
    start = perf_counter()
    selection = solve(egraph, roots)
    assert perf_counter() - start < 10
    assert selection.cost == 5_000 * 4 + 5_000 * 3.5


def shared_float_values(count: int) -> tuple[EGraph, list[int]]:
    """A float value (10) with two consumers. Each can absorb it for 10.5, alone cheaper than 10 + 1; both: 21 > 12."""
    egraph: EGraph = [[(0.0, []), (0.5, [])]]
    x = 0
    for _ in range(count):
        shared = len(egraph)
        egraph.append([(10.0, [x])])
        for _ in range(2):
            egraph.append([(1.0, [shared]), (10.5, [x])])
        egraph.append([(1.0, [shared + 1, shared + 2])])
        x = shared + 3
    return egraph, [x]


def test_shared_value_is_computed_once() -> None:
    selection = solve(*shared_float_values(500))
    assert selection.cost == 500 * 13
    assert selection.method == "elimination"


def test_shared_value_is_absorbed_when_that_is_cheaper() -> None:
    egraph, _ = shared_float_values(1)
    assert solve(egraph, [2]).cost == 10.5


def inverse_views(count: int) -> tuple[EGraph, list[int]]:
    """Two layouts of each value: compute one (3 or 2.5), get the other by a view (0.25)."""
    egraph: EGraph = [[(0.0, [])]]
    x = 0
    for i in range(count):
        a = len(egraph)
        b = a + 1
        egraph.append([(3.0, [x]), (0.25, [b])])
        egraph.append([(2.5, [x]), (0.25, [a])])
        egraph.append([(1.0, [a, b])] if i % 2 else [(1.0, [b]), (2.0, [a])])
        x = a + 2
    return egraph, [x]


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


def test_one_wide_part_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    r = random.Random(7)
    egraph, roots = shared_float_values(200)
    easy = solve(egraph, roots)
    base = len(egraph)
    for i in range(120):
        pool = range(base + max(0, i - 60), base + i)
        options: list[Option] = [
            (r.randint(1, 60) / 10, r.sample(pool, min(len(pool), r.randint(1, 3)))) for _ in range(3)
        ]
        egraph.append(options)
    roots += [len(egraph) - 1 - i for i in range(10)]
    limit_cells(monkeypatch, 64)
    selection = solve(egraph, roots)
    assert selection.method == "greedy"
    assert len(selection.notes) == 1
    assert all(selection.choice[c] == k for c, k in easy.choice.items())


def test_out_of_time_is_still_sound() -> None:
    selection = solve(*inverse_views(500), time_limit=0.0)
    assert selection.cost >= 500 * 3.5


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
    problems = [residual_chain(50, True), shared_float_values(20), inverse_views(20)]
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


@pytest.mark.parametrize(("make", "per_step"), [(residual_chain, 2), (shared_float_values, 4), (inverse_views, 3)])
def test_time_grows_linearly(make: Callable[[int], tuple[EGraph, list[int]]], per_step: int) -> None:
    def best_of_three(classes: int) -> float:
        snapshot, costs = freeze(*make(classes // per_step))
        times: list[float] = []
        for _ in range(3):
            start = perf_counter()
            extract(snapshot, costs)
            times.append(perf_counter() - start)
        return min(times)

    assert best_of_three(8_000) <= 12 * best_of_three(1_000)
