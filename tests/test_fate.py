"""Nothing disappears: every call of the input graph is kept with a reason, fused by named rules, or gone and why."""

from __future__ import annotations

from functools import cache

import builders as b
import pytest
import torch
from torch import fx, nn

import qegraph
from qegraph import zoo
from qegraph.program import operator_name
from qegraph.report import Fate, Report
from qegraph.report.fates import GEMMS

NAMES = frozenset(rule.name for rule in qegraph.shipped_rules())
SIZES = ["small", pytest.param("full", marks=pytest.mark.zoo)]


@cache
def pair(name: str, size: zoo.Size) -> tuple[fx.GraphModule, fx.GraphModule]:
    model, inputs = zoo.load(name, size)
    gm = zoo.quantize(model, inputs)
    return gm, qegraph.optimize(gm, cost=b.int8_first)


def accounted(gm: fx.GraphModule, fast: fx.GraphModule) -> Report:
    """Asserts that the account is complete and true, as far as the two graphs alone can tell."""
    report = qegraph.explain(fast)
    calls = {node.name: operator_name(node.target) for node in gm.graph.nodes if node.op.startswith("call_")}
    assert {name: each.op for name, each in report.fate.items()} == calls
    emitted = {node.name: node for node in fast.graph.nodes}
    needed = _needed(gm)
    for name, each in report.fate.items():
        assert set(each.into) <= set(emitted), f"{name}: {each}"
        assert set(each.rules) <= NAMES, f"{name}: {each}"
        if each.status == "fused":
            assert each.into and each.rules, f"{name}: {each}"
        elif each.status == "kept":
            assert each.into and each.reason and not each.rules, f"{name}: {each}"
            if "quantize" in each.op:
                assert operator_name(emitted[each.into[0]].target) == each.op
        else:
            assert each.reason and (name not in needed or each.rules or each.into or "returns" in each.reason), each
        assert (each.reason == "no result of the graph depends on it") == (name not in needed), f"{name}: {each}"
    kept = {into for each in report.fate.values() if each.status == "kept" for into in each.into}
    made = {name for each in report.after if each.role == "border" and "\n" in each.detail for name in [each.name]}
    for label in ("quantize", "dequantize"):
        assert set(report.left.get(label, ())) <= kept | made, "a quantize or dequantize nobody accounts for"
    gemms = {name for name, each in report.fate.items() if each.op in GEMMS}
    standing = {name for each in report.contractions for name in each.gemms}
    assert {name for name in gemms if not _is_other_kernel(report, report.fate[name], emitted)} <= standing
    return report


def _needed(gm: fx.GraphModule) -> set[str]:
    found: set[str] = set()
    stack = [node for node in gm.graph.nodes if node.op == "output" or node.is_impure()]
    while stack:
        node = stack.pop()
        if node.name not in found:
            found.add(node.name)
            stack.extend(node.all_input_nodes)
    return found


def _is_other_kernel(report: Report, fate: Fate, emitted: dict[str, fx.Node]) -> bool:
    """A contraction inside a kernel that is none itself: attention, an integer product, a bag of embeddings."""
    return not any(name in {each.name for each in report.contractions} for name in fate.into) and bool(fate.into)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", zoo.names())
def test_every_call_of_the_zoo_is_accounted_for(name: str, size: zoo.Size) -> None:
    report = accounted(*pair(name, size))
    int8 = [each for each in report.contractions if each.int8]
    assert all(each.rules and each.cost > 0 for each in int8)
    assert [each for each in int8 if not each.gemms and each.kind != "average pool"] == []
    assert 0 < sum(each.cost for each in report.after) <= report.cost * (1 + 1e-9)


def test_what_no_result_needs() -> None:
    x = torch.randn(2, 16)

    def two(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
        unused = b.dq(b.q(x, b.OUT), b.OUT)
        torch.relu(unused)
        return linear(b.fq(x, b.IN))  # type: ignore[no-any-return]

    gm = b.net(two, [b.Linear(16, 8)], [x])
    report = accounted(gm, b.checked(gm, [x]))
    print(report)
