"""The rule asked about, or the nearest one: what of it matches, what differs, and the command that says so."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, OUT, Conv, Linear, Weight, fq, net, q, rows
from torch import Tensor, nn

import qegraph
from qegraph import kernels
from qegraph.capture import capture
from qegraph.cli import main
from qegraph.load_rules import shipped
from qegraph.nearmiss import applied, nearest
from qegraph.search import search


def test_the_observed_range_of_zero_points() -> None:
    part = Linear()
    part.weight.zps.copy_(torch.arange(16) % 5 + 3)
    answer = qegraph.why_not(net(lambda m, x: m(fq(x)), [part], [rows(2)]), "linear", "gemm-int8")
    assert "zero points 3..7 (int64 [16])" in answer.observed


def chain(**weight: Any) -> tuple[torch.fx.GraphModule, list[Tensor]]:
    """quantize(relu(linear))"""
    inputs = [rows(2)]
    return net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear(**weight)], inputs), inputs


def test_structure_that_differs_and_what_is_behind_it() -> None:
    gm, _ = chain(zp=5)
    answer = qegraph.why_not(gm, "quantize_per_tensor_1", "requantize")
    assert answer.verdict == "structure differs" and answer.matched == (2, 14)
    assert answer.mismatch == "expected QGemm at relu, found Unary"
    assert answer.cause is not None and answer.cause.mismatch == "expected QGemm at linear, found Gemm"
    assert (answer.root.rule, answer.root.at, answer.root.guard) == ("gemm-int8", "linear", "weight-symmetric")
    assert "because   at linear: gemm-int8 needs weight-symmetric" in str(answer) and len(str(answer).splitlines()) <= 8


@pytest.mark.parametrize("swapped", [False, True])
def test_commutative_words_are_matched_in_both_orders(swapped: bool) -> None:
    """The deepest match is the one with the product in its place, whichever side it is on."""
    x, y = rows(2), rows(2, 16)
    gm = net(lambda m, x, y: y + m(x) if swapped else m(x) + y, [nn.Linear(24, 16)], [x, y])
    answer = qegraph.why_not(gm, "add", "bias-of-linear")
    assert answer.mismatch == "expected Nothing at parts_0_bias, found Leaf"
    assert answer.matched == (6, 7)


def test_an_attribute_that_differs() -> None:
    gm = net(lambda m, x: F.tanh(F.relu(m(fq(x)))), [Linear()], [rows(2)])
    answer = qegraph.why_not(gm, "tanh", "post-op")
    assert answer.mismatch == "expected identity in relu, found relu" and answer.verdict == "structure differs"


@b.full_range
def test_in_use() -> None:
    """Of a node inside a kernel, too, and of the conversions before it."""
    gm, _ = chain()
    for node, rule in (
        ("quantize_per_tensor_1", "requantize"),
        ("relu", "post-op"),
        ("linear", "gemm-int8"),
        ("dequantize_per_tensor", "gemm-int8"),
        ("quantize_per_tensor", "gemm-int8"),
    ):
        answer = qegraph.why_not(gm, node, cost=b.int8_first)
        assert (answer.rule, answer.verdict) == (rule, "in use")
        assert answer.made.startswith("QGemm computes quantize_per_tensor_1")


@b.full_range
def test_what_is_in_use_is_what_is_emitted() -> None:
    gm, _ = chain()
    fast = qegraph.optimize(gm, cost=b.int8_first)
    (kernel,) = qegraph.explain(fast).contractions
    made = next(node.meta["qegraph"] for node in fast.graph.nodes if node.name == kernel.name)
    assert made["rules"]
    for rule in made["rules"]:
        answer = qegraph.why_not(gm, "quantize_per_tensor_1", rule, cost=b.int8_first)
        assert answer.verdict == "in use", str(answer)


@b.full_range
def test_not_chosen_says_both_costs() -> None:
    """Under a price for kernels that is known."""
    gm, _ = chain()
    plain = qegraph.explain(qegraph.optimize(gm, cost=lambda s, n: 1.0 + 100.0 * (n.op == "QGemm"))).cost
    answer = qegraph.why_not(gm, "relu", cost=lambda s, n: 1.0 + 100.0 * (n.op == "QGemm"))
    assert (answer.rule, answer.verdict) == ("post-op", "not chosen")
    assert answer.costs is not None and answer.costs[0] == plain < 101 <= answer.costs[1] < plain + 101
    assert f"as chosen {plain:.2f} µs, with it {answer.costs[1]:.2f} µs" in str(answer)
    assert qegraph.why_not(gm, "linear", cost=lambda s, n: 1.0 + 100.0 * (n.op == "QGemm")).fix.startswith("require=")


def test_off_by_default() -> None:
    i, o = torch.tensor([0, 3, 1, 2]), torch.tensor([0, 2, 4])
    gm = net(
        lambda w, i, o: F.embedding_bag(i, w(), o, mode="sum", include_last_offset=True), [Weight(10, 64, scale=0.01)],
        [i, o],
    )  # fmt: skip
    rule = "embedding-bag-of-codes"
    answer = qegraph.why_not(gm, "getitem")
    if kernels.has_cpu_kernel("torchao::_scaled_embedding_bag"):
        assert (answer.rule, answer.verdict) == (rule, "off by default")
        assert rule in answer.fix
    else:
        assert (answer.rule, answer.guard, answer.note) == (rule, "kernel-present", "off by default")


def test_the_search_stopped() -> None:
    gm, _ = chain()
    answer = qegraph.why_not(gm, "linear", budget=qegraph.Budget(rounds=0))
    assert (answer.rule, answer.verdict, answer.note) == (
        "gemm-int8",
        "search stopped",
        "the search stopped at 0 rounds",
    )
    assert "budget" in answer.fix
    later = qegraph.why_not(gm, "quantize_per_tensor_1", "requantize", budget=qegraph.Budget(rounds=1))
    assert later.verdict == "structure differs" and later.note == "the search stopped at 1 rounds"


def test_unknown_names() -> None:
    gm, _ = chain()
    with pytest.raises(qegraph.QegraphError, match=r"no value named liner; the nearest names are linear"):
        qegraph.why_not(gm, "liner")
    with pytest.raises(qegraph.RuleError, match=r"no shipped rule is named requantise; did you mean requantize\?"):
        qegraph.why_not(gm, "linear", "requantise")


def test_a_node_no_rule_is_about() -> None:
    answer = qegraph.why_not(net(lambda x: torch.sort(x)[0], [], [rows(2)]), "sort")
    assert answer.verdict == "structure differs" and "no rule" in str(answer)


def test_the_report_says_what_the_guard_saw() -> None:
    gm = net(lambda m, x: m(fq(x)), [Linear(zp=5)], [rows(2)])
    assert b.stays_float(qegraph.optimize(gm)).endswith("-128..127 of int8 [gemm-int8: weight-symmetric]")


@pytest.mark.parametrize("rule", [None, "requantize"])
def test_command(rule: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = rows(2)
    program = torch.export.export(b.Net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear(zp=5)]), (x,), strict=False)
    path = str(tmp_path / "model.pt2")
    torch.export.save(program, path)
    assert main(["why-not", path, "quantize_per_tensor_1", *([rule] if rule else [])]) == 0
    out = capsys.readouterr().out
    assert out.startswith("quantize_per_tensor_1: requantize structure differs") and len(out.splitlines()) <= 8
    assert main(["why-not", path, "nowhere"]) == 2
    assert "no value named nowhere" in capsys.readouterr().err


def test_command_on_a_model_of_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why-not", "resnet18", "conv2d", "gemm-int8", "--size", "small"]) == 0
    assert capsys.readouterr().out.startswith("conv2d: gemm-int8 ")


GRAPHS = {
    "chain": lambda: chain()[0],
    "zero point": lambda: chain(zp=5)[0],
    "two linears": lambda: net(lambda m, n, x: m(fq(x)) + n(fq(x)), [Linear(), Linear()], [rows(2)]),
    "convolutions": lambda: net(
        lambda m, n, x: q(F.max_pool2d(F.silu(n(fq(m(fq(x)), OUT))), 2), IN), [Conv(), Conv(kernel=1)], [b.image()]
    ),
    "decomposed": lambda: b.decomposed(
        lambda m, x: F.gelu(m(fq(x))) / 3.0, [Linear()], [torch.randn(2, 5, 24)]
    ),
    "integers": lambda: net(lambda m, x: x.bfloat16() @ m().bfloat16(), [Weight(24, 16)], [rows(2)]),
}  # fmt: skip


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_matcher_agrees_with_the_e_graph(graph: str) -> None:
    """In a saturated e-graph every rule holds for the matcher exactly where it was applied: nothing else is known of
    matches, so a guard or a pattern that is read otherwise would show. One-way rules have given up what they matched.
    """
    found = search(capture(GRAPHS[graph]()))
    rules = [rule for rule in found.rules if not rule.one_way]
    places = 0
    for rule in rules:
        for eclass in range(len(found.snapshot.classes)):
            if any(each.lhs.head in found.tables.words(eclass) for each in rule.equalities):
                near = nearest(found.tables, rule, eclass)
                assert near.holds == applied(found.tables, rule, eclass), (rule.name, eclass)
                places += 1
    assert places > 10


def test_no_pattern_is_searched_without_bound() -> None:
    """A sum of sums of one value: every order of every word fits a little."""

    def many(x: Tensor) -> Tensor:
        for _ in range(40):
            x = (x * x + x) * (x + x * 0.5)
        return x

    found = search(capture(net(many, [], [rows(2)])), budget=qegraph.Budget(rounds=4))
    last = found.snapshot.roots[0]
    start = time.perf_counter()
    for rule in shipped():
        near = nearest(found.tables, rule, last)
        assert not near.holds or applied(found.tables, rule, last)
    assert time.perf_counter() - start < 5.0
