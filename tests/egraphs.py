"""E-graphs for tests of extraction: made by hand, at random, or as large as wanted; and their brute force."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf

import pytest

from qegraph.errors import QegraphError
from qegraph.extract import Selection, extract
from qegraph.extract import solve as solve_module
from qegraph.snapshot import ClassRef, ENode, Snapshot

Option = tuple[float, Sequence[int]]  # cost, children
EGraph = list[list[Option]]  # per e-class its e-nodes
Problem = tuple[EGraph, list[int]]  # and its roots


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


def random_egraph(seed: int) -> Problem:
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
    if not selection.notes:
        assert selection.cost == pytest.approx(best, abs=1e-6)
    return selection


def limit_cells(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Make elimination give up on tables above `cells`."""
    monkeypatch.setattr(solve_module, "EASY_CELLS", cells)
    monkeypatch.setattr(solve_module, "HARD_CELLS", cells)


def hide_ilp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if highspy weren't installed."""
    monkeypatch.setitem(__import__("sys").modules, "highspy", None)


def residual_chain(depth: int, fused: bool = True) -> Problem:
    """x ← add(f(x), x); with `fused`, every other add can also be had with f inside, for 3.5 instead of 3 + 1."""
    egraph: EGraph = [[(0.0, [])]]
    for i in range(depth):
        x = len(egraph) - 1
        egraph.append([(3.0, [x])])
        fusion: list[Option] = [(3.5, [x])] if fused and i % 2 else []
        egraph.append([(1.0, [x + 1, x]), *fusion])
    return egraph, [len(egraph) - 1]


def shared_float_values(count: int) -> Problem:
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


def inverse_views(count: int) -> Problem:
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


def unet(levels: int) -> Problem:
    """Down and up again: every level going up also reads the same level going down, so skips nest around each other.

    Each value is had as codes or as floats, or both; kernels read either, codes cheaper, and quantizing is extra.
    """
    r = random.Random(levels)
    egraph: EGraph = [[(0.0, [])], [(0.5, [0])]]
    down: list[tuple[int, int]] = [(0, 1)]  # e-classes of the floats and of the codes
    for _ in range(levels):
        floats, codes = down[-1]
        down.append(_floats_and_codes(egraph, r, [floats], [codes]))
    up = down[-1]
    for floats, codes in reversed(down[:-1]):
        up = _floats_and_codes(egraph, r, [up[0], floats], [up[1], codes])
    return egraph, [up[0]]


def dense_blocks(layers: int) -> Problem:
    """DenseNet: every layer reads all earlier ones of its block, as codes or as floats; blocks of 3, 4, 5, … layers."""
    r = random.Random(layers)
    egraph: EGraph = [[(0.0, [])], [(0.5, [0])]]
    block = [(0, 1)]
    size = 3
    for _ in range(layers):
        floats, codes = [each[0] for each in block], [each[1] for each in block]
        block.append(_floats_and_codes(egraph, r, floats, codes))
        if len(block) == size:
            block = block[-1:]
            size += 1
    return egraph, [block[-1][0]]


def _floats_and_codes(egraph: EGraph, r: random.Random, floats: list[int], codes: list[int]) -> tuple[int, int]:
    """A kernel's result as floats and as codes, from operands that are there as both."""
    here = len(egraph)
    fast = 3 + r.randrange(10) / 10
    egraph.append([(fast + r.randrange(-10, 30) / 10, floats), (fast, codes)])
    egraph.append([(r.randrange(3, 15) / 10, [here]), (fast + r.randrange(15) / 10, codes)])
    return here, here + 1


def tangle(size: int, seed: int = 7) -> Problem:
    """Random e-nodes over the last 60 e-classes: as wide as it is long."""
    r = random.Random(seed)
    egraph: EGraph = []
    for i in range(size):
        pool = range(max(0, i - 60), i)
        egraph.append([(r.randint(1, 60) / 10, r.sample(pool, min(len(pool), r.randint(1, 3)))) for _ in range(3)])
    return egraph, [len(egraph) - 1 - i for i in range(10)]


def layouts(steps: int) -> Problem:
    """Two layouts of each value, one from the other by a copy, so in a cycle; every third has a view of it, both ways.

    Kernels of either layout read that layout; every fourth adds the value of four steps ago.
    """
    r = random.Random(steps)
    egraph: EGraph = [[(0.0, [])], [(0.3, [0])]]
    values = [(0, 1)]
    for i in range(steps):
        here = len(egraph)
        copy = r.randrange(2, 9) / 10
        sides: list[list[Option]] = []
        for side in (0, 1):
            operands = [values[-1][side], *([values[-4][side]] if i % 4 == 3 else [])]
            sides.append([(2 + r.randrange(10) / 10, operands), (copy, [here + 1 - side])])
        egraph += sides
        values.append((here, here + 1))
        if i % 3 == 2:
            egraph[here].append((0.1, [here + 2]))
            egraph.append([(0.1, [here]), (2 + r.randrange(10) / 10, [values[-2][1]])])
            values[-1] = (here + 2, here + 1)
    return egraph, list(values[-1])


FAMILIES: dict[str, tuple[Callable[[int], Problem], float]] = {
    "residual chain": (residual_chain, 2.5),
    "shared float values": (shared_float_values, 6),
    "inverse views": (inverse_views, 5.5),
    "unet": (unet, 8),
    "dense blocks": (dense_blocks, 4),
    "layouts": (layouts, 5),
}
"""Builders, and e-nodes per step."""


def family(name: str, nodes: int) -> tuple[Snapshot, list[float]]:
    """About this many e-nodes of it."""
    make, per_step = FAMILIES[name]
    return freeze(*make(round(nodes / per_step)))
