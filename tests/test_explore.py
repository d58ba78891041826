"""`explore`: what is chosen, forced or done without changes the form, never the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from math import inf

import builders as b
import pytest
import torch
from test_explain import Small, cell, well_formed
from torch import fx
from torch.nn import functional

import qegraph
from qegraph import Session, zoo
from qegraph.validate import validate
from qegraph.view.outcome import Outcome
from qegraph.view.picture import picture


@cache
def small() -> tuple[fx.GraphModule, Sequence[torch.Tensor], Session]:
    torch.manual_seed(0)
    x = torch.randn(4, 16)
    gm = b.build(Small(), [x], strict=False)
    return gm, [x], qegraph.explore(gm, cost=b.int8_first)


@cache
def resnet() -> tuple[fx.GraphModule, Sequence[torch.Tensor], Session]:
    model, inputs = zoo.load("resnet18", "small")
    gm = zoo.quantize(model, inputs)
    return gm, inputs, qegraph.explore(gm, cost=b.int8_first)


def sound(outcome: Outcome, gm: fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Outcome:
    assert [each for each in validate(gm, outcome.module, inputs) if not each.within_contract] == []
    assert qegraph.explain(outcome.module) == outcome.report
    return outcome


def test_the_best_is_what_optimize_gives() -> None:
    gm, inputs, session = resnet()
    fast = qegraph.optimize(gm, cost=b.int8_first)
    assert sound(session.best, gm, inputs).module.code == fast.code
    assert session.extract().module.code == fast.code
    assert "8 conv: 8 int8" in repr(session)


@b.full_range
@pytest.mark.parametrize("name", ["stages.0.body.0.0", "conv2d_1"])
def test_choices_list_every_form(name: str) -> None:
    found = resnet()[2].choices(name)
    assert found.node == "conv2d_1"
    words = [each.term.partition("(")[0] for each in found]
    assert {"Gemm", "QGemm"} <= set(words)
    assert found[words.index("Gemm")].rules == () and found[words.index("QGemm")].rules == ("gemm-int8",)
    assert "fused into qconv_pointwise_default_1 by gemm-int8, post-op" in found.title
    text = well_formed(cell(found))
    assert all(each.term in text and each.term in str(found) for each in found)


@b.full_range
def test_the_chosen_form_is_marked_and_costs_what_the_best_does() -> None:
    _, _, session = small()
    found = session.choices("quantize_per_tensor_1")
    (chosen,) = (each for each in found if each.chosen)
    assert chosen.rules == ("gemm-int8", "post-op", "requantize")
    assert chosen.total == pytest.approx(session.best.cost)
    assert all(each.total >= session.best.cost - 1e-6 for each in found)
    assert re.search(r"^▶ \d  QGemm\(Linear, .*relu|^▶ \d  QGemm\(Linear, .*clamp", str(found), re.MULTILINE)


def test_forcing_what_is_chosen_anyway_changes_nothing() -> None:
    _, _, session = resnet()
    snapshot, choice = session.best.search.snapshot, session.best.selection.choice
    for value in session.search.program.values:
        eclass = session.search.freezer.value_class[value.index]
        if value.kind == "call" and eclass in choice:
            form = snapshot.classes[eclass].index(choice[eclass])
            assert session.choices(value.name)[form].total == pytest.approx(session.best.cost), value.name


def test_a_contraction_forced_into_floats_is_one() -> None:
    gm, inputs, session = resnet()
    outcome = sound(session.extract(force={"conv2d_1": "Gemm"}), gm, inputs)
    assert outcome.cost > session.best.cost
    floats = [each for each in outcome.report.contractions if not each.int8]
    assert [each.gemms for each in floats] == [("conv2d_1",)]
    assert outcome.name == "conv2d_1 as Gemm"
    by_position = [each.term.partition("(")[0] for each in session.choices("conv2d_1")].index("Gemm")
    assert session.extract(force={"stages.0.body.0.0": by_position}).module.code == outcome.module.code


def test_a_form_with_terms_of_its_own_can_be_forced() -> None:
    """The average pool as a convolution brings a weight that only its own rule makes."""
    x = b.image()
    gm = b.net(_pooled, [], [x])
    session = qegraph.explore(gm)
    found = {each.term.partition("(")[0]: each for each in session.choices("avg_pool2d")}
    assert {"AvgPool", "QGemm"} <= found.keys()
    outcome = sound(session.extract(force={"avg_pool2d": "QGemm"}), gm, [x])
    assert [each.kind for each in outcome.report.contractions] == ["average pool"]
    assert found["QGemm"].total == pytest.approx(outcome.cost)
    assert session.extract(force={"avg_pool2d": "AvgPool"}).report.contractions == ()


def _pooled(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(b.fq(x), 3)


@b.full_range
def test_without_a_rule_nothing_is_made_by_it() -> None:
    gm, inputs, session = resnet()
    outcome = sound(session.extract(without=["post-op"]), gm, inputs)
    assert outcome.cost > session.best.cost
    assert {rule for each in session.best.report.fate.values() for rule in each.rules} >= {"post-op"}
    assert all("post-op" not in each.rules for each in outcome.report.fate.values())
    assert all(each.post_ops in ((), ("add",)) for each in outcome.report.contractions)
    both = session.extract(without=["post-op"], force={"conv2d_1": "Gemm"})
    assert sound(both, gm, inputs).cost > outcome.cost


def test_another_cost_is_another_choice() -> None:
    gm, inputs, session = small()

    def floats_first(snapshot: object, node: object) -> float:
        return 1.0 if getattr(node, "op", "") == "QGemm" else 0.001

    outcome = sound(session.extract(cost=floats_first, name="floats"), gm, inputs)
    assert outcome.name == "floats" and not any(each.int8 for each in outcome.report.contractions)


def test_comparison_adds_up() -> None:
    _, inputs, session = resnet()
    other = session.extract(force={"conv2d_1": "Gemm"})
    found = session.compare(session.best, other, inputs=inputs, rounds=3)
    assert sum(step.change for step in found.steps) == pytest.approx(other.cost - session.best.cost, abs=1e-6)
    assert {step.kind: step.calls for step in found.steps}["float conv"] == (0, 1)
    assert any("conv2d_1" in line and line.startswith("conv ->") for line in found.only[1])
    assert found.speedup > 0 and all(len(each.samples) == 3 for each in found.timing)
    text = well_formed(cell(found))
    assert "float conv" in text and "float conv (0 -> 1 calls)" in str(found)
    same = session.compare(session.best, session.extract(), rounds=1)
    assert same.steps == () and same.only == ((), ())


def test_view_holds_the_neighbourhood_and_fetches_nothing() -> None:
    _, _, session = resnet()
    page = session.view("conv2d_1")
    well_formed(page)
    data = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)[0])
    words, classes = data["words"], data["classes"]
    assert words[classes[0][0]] == "conv2d_1"
    shown = {words[form[0]] for form in classes[0][2]}
    assert shown == {each.term for each in session.choices("conv2d_1")}
    chosen = [words[form[0]] for each in classes for form in each[2] if form[3]]
    assert sum(term.startswith("QGemm") for term in chosen) == len(session.best.report.contractions)
    assert all(0 <= operand < len(classes) for each in classes for form in each[2] for operand in form[1])
    assert any(words[rule].startswith("gemm-int8: ") for form in classes[0][2] for rule in form[4])
    assert cell(page).startswith("<iframe srcdoc=") and "<script" not in cell(page)


def test_a_large_graph_is_cut_to_what_is_near() -> None:
    _, _, session = resnet()
    eclass = session.search.freezer.value_class[session.search.program.source_nodes["conv2d_1"]]
    page = picture(session.best, eclass, most=10)
    data = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)[0])
    assert len(data["classes"]) == 10 and "too far away" in data["title"]


def test_errors_name_the_nearest() -> None:
    _, _, session = resnet()
    with pytest.raises(qegraph.QegraphError, match=r"got 'conv2d_11'; nearest: conv2d_1"):
        session.choices("conv2d_11")
    with pytest.raises(qegraph.QegraphError, match=r"nearest: .*stages\.0\.body\.0\.0"):
        session.view("stages.0.body.0")
    with pytest.raises(qegraph.QegraphError, match=r"got 'post-opp'; nearest: post-op"):
        session.extract(without=["post-opp"])
    with pytest.raises(qegraph.QegraphError, match=r"conv2d_1 has no form Softmax here; its forms: .*QGemm"):
        session.extract(force={"conv2d_1": "Softmax"})
    with pytest.raises(qegraph.QegraphError, match=r"conv2d_1 has forms 0 to \d, got 99"):
        session.extract(force={"conv2d_1": 99})
    with pytest.raises(qegraph.QegraphError, match="no graph is left"):
        session.extract(cost=lambda snapshot, node: inf)
