"""`optimize(verify=...)`: what is right is said to be verified, what is wrong comes back as it was, with the reason."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, Linear, fq, net, q
from mutants import MUTANTS
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule

import qegraph
from qegraph import zoo
from qegraph.fuzz import grow
from qegraph.fuzz.forms import int8_first
from qegraph.validate import compare

aten: Any = torch.ops.aten

UNSOUND = '''
from qegraph.lang import Tensor, relu, rewrite, rule, unary
from qegraph.lang.rule import Rewrite


@rule
def relu_is_nothing(x: Tensor) -> Rewrite:
    """relu(x) = x, which it isn't"""
    return rewrite(unary(relu(), x)).to(x)
'''


def rows() -> Tensor:
    return torch.linspace(-2, 2, 96).reshape(4, 24)


def perceptron() -> GraphModule:
    torch.manual_seed(0)
    return net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear()], [rows()])


def planted(name: str) -> Any:
    return next(each.rule for mutants in MUTANTS.values() for each in mutants if each.rule.name == name)


WAYS: dict[str, tuple[Any, str]] = {
    "generated": (True, r"on 2 generated calls \(1 of 2\)"),
    "one call": ([(rows(),)], "on the call given"),
    "two calls": ([(rows(),), [rows() * 2]], r"on the 2 calls given \(1 of 2\)"),
}


@b.full_range
@pytest.mark.parametrize("way", WAYS)
def test_an_unsound_rule_is_caught(way: str) -> None:
    verify, place = WAYS[way]
    gm = perceptron()
    rules = ["default", planted("post-op-dropped")]
    assert not qegraph.explain(qegraph.optimize(gm, rules=rules, cost=int8_first)).unchanged
    fast = qegraph.optimize(gm, rules=rules, cost=int8_first, verify=verify)
    report = qegraph.explain(fast)
    assert report.verified == ""
    pattern = rf"refused by verification {place}: node 'qlinear_pointwise_default', which stands for "
    pattern += r"'quantize_per_tensor_1', is off by \d+ LSB, \d+ of 64 differ \(rules behind it: .*post-op-dropped"
    assert _matches(pattern, report.unchanged), report.unchanged
    assert b.kinds(fast) == [] and torch.equal(fast(rows()), gm(rows()))


def _matches(pattern: str, text: str) -> bool:
    return re.match(pattern, text) is not None


def test_example_inputs_are_what_it_is_verified_on() -> None:
    fast = qegraph.optimize(perceptron(), [rows()], rules=["default", planted("post-op-dropped")], cost=int8_first,
                            verify=True)  # fmt: skip
    assert "on the example inputs" in qegraph.explain(fast).unchanged
    meta = [rows().to("meta")]
    assert "on 2 generated calls" in qegraph.explain(qegraph.optimize(perceptron(), meta, verify=True)).verified


def test_values_that_are_said_to_be_equal_are_compared(tmp_path: Path) -> None:
    """No call of the result stands for the relu."""
    (tmp_path / "unsound.py").write_text(UNSOUND)
    gm = net(lambda x: F.relu(x), [], [rows()])
    fast = qegraph.optimize(gm, rules=[tmp_path / "unsound.py"], verify=True)
    assert "'relu' isn't 'inputs_0': it is off by" in qegraph.explain(fast).unchanged
    assert "(rules behind it: relu-is-nothing)" in qegraph.explain(fast).unchanged
    assert torch.equal(fast(rows()), gm(rows()))


def test_a_refusal_is_no_int8() -> None:
    with pytest.raises(qegraph.RequirementError, match="refused by verification"):
        qegraph.optimize(perceptron(), rules=["default", planted("post-op-dropped")], require="int8", verify=True)


@pytest.mark.parametrize("name", ["llama_style", "mobilenet_v3_large"])
def test_models_are_verified(name: str) -> None:
    model, inputs = zoo.load(name, "small")
    gm = zoo.quantize(model, inputs)
    report = qegraph.explain(qegraph.optimize(gm, cost=int8_first, verify=[inputs]))
    assert report.unchanged == "" and not report.floats()
    assert _matches(r"on the call given, \d+ values and 1 results compared: all within", report.verified)
    assert f"\n  verified: {report.verified}\n" in str(report) and report.seconds["verify"] > 0


@pytest.mark.zoo
def test_programs_of_the_fuzzer_are_verified() -> None:
    """None is refused for the roundings of other operators downstream."""
    for seed in range(300):
        program = grow(seed)
        report = qegraph.explain(qegraph.optimize(program.module, program.inputs, cost=int8_first, verify=True))
        assert "verif" not in report.unchanged, (seed, report.unchanged)


class Half(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.first, self.second = Linear(out_dtype=dtype), Linear(16, 16, out_dtype=dtype)
        self.first.bias, self.second.bias = (nn.Buffer(torch.randn(16).to(dtype)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(fq(F.relu(self.first(fq(x).to(self.dtype))).float()).to(self.dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_less_and_right(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gm = b.build(Half(dtype), [rows()])
    fast = qegraph.optimize(gm, cost=int8_first, verify=True)
    assert len(b.kinds(fast)) == 2 and qegraph.explain(fast).verified


def writing(m: nn.Module, x: Tensor) -> Tensor:
    y = m(fq(x))
    y[:, :4].relu_()
    return q(y.relu_() + 1, OUT)


def drawing(m: nn.Module, x: Tensor) -> Tensor:
    return m(fq(F.dropout(x, 0.5, True)))


def nan(m: nn.Module, x: Tensor) -> Tensor:
    return m(fq(x)).log() / 0


SOUND: dict[str, Callable[..., Any]] = {
    "writes in place": writing,
    "random numbers": drawing,
    "NaN and infinities": nan,
    "not quantized": lambda m, x: x + 1,
    "returns an input": lambda m, x: (x, x.flatten(), 3, None),
}


@pytest.mark.parametrize("case", SOUND)
def test_sound_graphs_are_verified(case: str) -> None:
    torch.manual_seed(0)
    gm = net(SOUND[case], [Linear()], [rows()])
    x = rows()
    before, state, threads = x.clone(), torch.get_rng_state(), torch.get_num_threads()
    random_state = random.getstate()
    report = qegraph.explain(qegraph.optimize(gm, cost=int8_first, verify=[(x,)]))
    assert report.verified and not report.unchanged, report.unchanged
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == random_state and torch.get_num_threads() == threads and torch.is_grad_enabled()


def test_symbolic_shapes_have_the_size_of_the_export() -> None:
    model = b.Net(lambda m, x: q(m(fq(x)), OUT), [Linear()])
    gm = b.build(model, [torch.randn(40, 24)], (({0: Dim("rows", min=33, max=64)},),), strict=False)
    assert qegraph.explain(qegraph.optimize(gm, cost=int8_first, verify=True)).verified
    assert qegraph.explain(qegraph.optimize(gm, cost=int8_first, verify=[(torch.randn(35, 24),)])).verified


def test_nested_inputs_and_an_exported_program() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Linear()

        def forward(self, pair: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
            return {"out": self.part(fq(pair[0] + pair[1]["y"]))}

    pair = (rows(), {"y": rows()})
    program = torch.export.export(Nested(), (pair,))
    assert qegraph.explain(qegraph.optimize(program, cost=int8_first, verify=[(pair,)])).verified


def test_what_cannot_be_run_is_not_verified() -> None:
    """The graph comes back: that it is right is what was asked for."""

    def pick(m: nn.Module, x: Tensor, i: Tensor) -> Tensor:
        return m(fq(x))[i]

    gm = net(pick, [Linear()], [rows(), torch.tensor([3])])
    fast = qegraph.optimize(gm, verify=[(rows(), torch.tensor([99]))])
    reason = r"it can't be verified on the call given: the given graph itself raises IndexError: .*verify=\[\(x"
    assert _matches(reason, qegraph.explain(fast).unchanged), qegraph.explain(fast).unchanged
    assert qegraph.explain(qegraph.optimize(gm, verify=[(rows(), torch.tensor([2]))])).verified


@pytest.mark.parametrize("verify", [[], [rows()], rows(), "yes", [1], None, {"x": 1}])
def test_what_is_no_list_of_calls_is_refused(verify: Any) -> None:
    with pytest.raises(ValueError, match=r"verify must be True, False, or a list with the arguments of each call"):
        qegraph.optimize(perceptron(), verify=verify)


@pytest.mark.parametrize("verify", [[(rows(), rows())], [()]])
def test_calls_the_graph_does_not_take_are_refused(verify: Sequence[Any]) -> None:
    with pytest.raises(qegraph.CaptureError, match="entries; the graph takes 1: inputs_0"):
        qegraph.optimize(perceptron(), verify=verify)


def test_comparing_heeds_what_is_no_number() -> None:
    nan, inf = float("nan"), float("inf")
    same = torch.tensor([1.0, nan, inf, -inf])
    assert compare("", "", same, same.clone()).within_contract
    for other in ([1.0, 2.0, inf, -inf], [1.0, nan, -inf, -inf], [1.0, nan, 3.0, -inf], [1.1, nan, inf, -inf]):
        assert not compare("", "", torch.tensor(other), same).within_contract
    assert not compare("", "", same[:3], same).within_contract
    assert "NaN or infinite somewhere else" in str(compare("", "", torch.tensor([nan]), torch.tensor([0.0])))
