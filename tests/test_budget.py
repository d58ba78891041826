"""Budgets: whichever limit ends the search, the result is sound and the report names the limit."""

from __future__ import annotations

import pytest
import torch
from torch.fx import GraphModule

import qegraph
from qegraph import Budget, memory, saturate, zoo
from qegraph.extract import Selection
from qegraph.kernels import adds_in_32_bits
from qegraph.validate import validate

Model = tuple[GraphModule, tuple[torch.Tensor, ...]]

LIMITS = {
    "rounds": (Budget(rounds=2), "2 rounds"),
    "no rounds": (Budget(rounds=0), "0 rounds"),
    "seconds": (Budget(seconds=0.0), "0 s"),
    "nodes": (Budget(nodes=120), "120 e-nodes"),
    "memory": (Budget(memory=10.0), "10 MiB of growth"),
}


@pytest.fixture(scope="module")
def model() -> Model:
    module, inputs = zoo.load("resnet18", "small")
    return zoo.quantize(module, inputs), inputs


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_named_and_the_result_is_sound(name: str, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    gm, inputs = model
    budget, limit = LIMITS[name]
    sizes = iter([100.0, 105.0, 111.0])
    monkeypatch.setattr(saturate, "resident", lambda: next(sizes))
    fast = qegraph.optimize(gm, budget=budget)
    report = qegraph.explain(fast)
    assert report.limit == limit and f"(stopped at {limit})" in str(report)
    assert report.rounds <= 2 and report.cost >= report.lower_bound > 0
    for each in report.floats():
        assert each.reason.endswith(f"the search stopped at {limit}")
    assert all(each.within_contract for each in validate(gm, fast, inputs))


def test_limits_that_are_not_reached_change_nothing(model: Model) -> None:
    gm, _ = model
    free = qegraph.optimize(gm)
    bound = qegraph.optimize(gm, budget=Budget(64, 600.0, 10_000, 4_000.0))
    assert qegraph.explain(bound).limit == "" and "(fixpoint)" in str(qegraph.explain(bound))
    assert bound.code == free.code


def test_less_search_is_never_cheaper(model: Model) -> None:
    """More rounds, lower cost: what is stopped early is what was best so far."""
    gm, inputs = model
    costs: list[float] = []
    for rounds in range(6):
        fast = qegraph.optimize(gm, budget=Budget(rounds=rounds))
        assert all(each.within_contract for each in validate(gm, fast, inputs))
        costs.append(qegraph.explain(fast).cost)
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.75 * costs[0]


def test_report_says_how_good_the_choice_is(model: Model) -> None:
    report = qegraph.explain(qegraph.optimize(model[0]))
    cycle = 2 if adds_in_32_bits() else 3  # codes of a narrow range, their clamp, and that before they are quantized
    assert report.gap == 0 and report.lower_bound == report.cost > 0
    assert report.method == "elimination" and report.largest_cycle == cycle and report.notes == ()
    assert (
        f"  {report.cost:.0f} µs {report.prices}; none in the e-graph takes less than {report.lower_bound:.0f} µs: "
        f"gap 0.00% (elimination, largest cycle {cycle})" in str(report)
    )
    worse = qegraph.Report(cost=10.0, lower_bound=9.0, method="greedy", largest_cycle=7, notes=("given up",))
    assert worse.gap == pytest.approx(0.1)
    assert "gap 10.00% (greedy, largest cycle 7)\n  given up\n" in str(worse)
    assert Selection({}, (), 10.0, 9.0, "greedy", 7).gap == worse.gap


def test_resident_memory_follows_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory.resident()
    held = torch.ones(64 * 2**18)  # 64 MiB
    assert 50 <= memory.resident() - before <= 100
    now = memory.resident()
    del held
    monkeypatch.setattr(memory, "_STATM", memory.Path("/nowhere"))
    assert memory.resident() >= 0.9 * now
    monkeypatch.setitem(__import__("sys").modules, "resource", None)
    assert memory.resident() == 0
