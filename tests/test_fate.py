"""Nothing disappears: every call of the input graph is kept with a reason, fused by named rules, or gone and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

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
CASES = [
    pytest.param(name, size, marks=[pytest.mark.zoo] if size == "full" or name == "densenet121" else [])
    for name in zoo.names()
    for size in ("small", "full")
]


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
            assert each.reason
            assert "traced anew" not in each.reason or ("quantize" not in each.op and each.op not in GEMMS)
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


@pytest.mark.parametrize(("name", "size"), CASES)
def test_every_call_of_the_zoo_is_accounted_for(name: str, size: zoo.Size) -> None:
    report = accounted(*pair(name, size))
    int8 = [each for each in report.contractions if each.int8]
    assert all(each.rules and each.cost > 0 for each in int8)
    assert [each for each in int8 if not each.gemms and each.kind not in ("average pool", "batch norm")] == []
    assert 0 < sum(each.cost for each in report.after) <= report.cost * (1 + 1e-9)


def told(function: Callable[..., Any], parts: Sequence[nn.Module], *inputs: torch.Tensor) -> Mapping[str, str]:
    """Node name -> what the report says became of it."""
    gm = b.net(function, parts, inputs)
    return {name: str(each) for name, each in accounted(gm, b.checked(gm, inputs)).fate.items()}


def test_what_no_result_needs() -> None:
    def unused(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
        torch.relu(b.fq(x, b.OUT))
        return linear(b.fq(x, b.IN))

    gm = b.net(unused, [b.Linear(16, 8)], [torch.randn(2, 16)])
    calls = gm.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)
    with gm.graph.inserting_before(calls[0]):
        extra = gm.graph.call_function(torch.ops.aten.relu.default, (calls[0].args[0],))
    gm.recompile()
    report = accounted(gm, b.checked(gm, [torch.randn(2, 16)]))
    assert str(report.fate[extra.name]) == "gone: no result of the graph depends on it"


def test_equal_values_are_computed_once() -> None:
    def twice(one: nn.Module, other: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return one(b.fq(x, b.IN)) + other(b.fq(x, b.IN))

    found = told(twice, [b.Linear(16, 8), b.Linear(16, 8)], torch.randn(2, 16))
    assert found["quantize_per_tensor"].startswith("kept as quantize_per_tensor: stores inputs_0, an input")
    assert found["quantize_per_tensor_1"] == "gone quantize_per_tensor: computed once, with quantize_per_tensor"


def test_codes_that_survive_say_by_which_rule() -> None:
    def again(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return linear(b.fq(b.fq(x, b.OUT), b.OUT))

    found = told(again, [b.Linear(16, 8)], torch.randn(2, 16))
    assert found["quantize_per_tensor_1"] == "fused into quantize_per_tensor by codes-survive: computed once, with " + (
        "quantize_per_tensor"
    )


def test_a_weight_quantized_in_the_graph_is_folded() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Buffer(torch.randn(8, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stored = b.fq(self.weight, b.QP(0.01, 0, -127, 127, torch.int8))
            return torch.nn.functional.linear(b.fq(x, b.IN), stored)

    x = torch.randn(2, 16)
    gm = b.build(Late(), [x], strict=False)
    fate = accounted(gm, b.checked(gm, [x])).fate
    folded = [each for each in fate.values() if "computed when the graph was read" in each.reason]
    assert [(each.op, each.status) for each in folded] == [("quantize_per_tensor", "gone")]
    assert folded[0].into == ("qlinear_pointwise_default",)


def test_a_float_product_is_kept_and_a_dropout_is_none() -> None:
    def product(drop: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return drop(x @ y)

    found = told(product, [nn.Dropout().eval()], torch.randn(2, 3), torch.randn(3, 4))
    assert found["matmul"].startswith("kept as matmul_default: ")
    assert found["dropout"] == "gone: returns matmul itself"


def test_what_is_written_in_place_has_its_fate_too() -> None:
    def written(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = linear(b.fq(x, b.IN))
        y[:, :4].relu_()
        return y

    found = told(written, [b.Linear(16, 8)], torch.randn(2, 16))
    assert {name for name, each in found.items() if "traced anew" in each} == {"_guards_fn", "relu_"}
