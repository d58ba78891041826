"""`torch.compile(model, backend="qegraph")`, the graphs run eagerly in the place of Inductor's code."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import gc
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, OUT, Conv, Linear, fq
from compiled import INT8, Given, compiled, perceptron, rows
from compiled import given as given
from compiled import start as start
from torch import Tensor, nn

import qegraph
from qegraph import native
from qegraph.compiling.constants import hold
from qegraph.coverage.parts import Net

LINEARS = ["qlinear"] * 2

# ---- what is compiled


def test_module(given: Given) -> None:
    model = perceptron()
    b.agrees(model, compiled(model), [rows()])  # pyright: ignore[reportArgumentType]
    assert given.kinds() == [LINEARS]
    assert not any(isinstance(node.target, str) and node.op == "get_attr" for node in given.modules[0].graph.nodes)
    assert [str(node.target) for node in given.modules[0].graph.nodes].count("qegraph.constants.default") == 1


def test_constants_go_by_their_content() -> None:
    """Graphs with the same code and other weights are different graphs, or one would get the other's code; so are
    those with the same weights, of which one can be written to.
    """
    weight = torch.arange(4.0)
    held = hold([weight, weight[:2]])
    again = hold([weight.clone(), weight[:2].clone()])
    names = [name for name, _ in held.named()]
    assert again.key != held.key and [name for name, _ in again.named()] == names
    for other in ([weight + 1, weight[:2]], [weight.reshape(2, 2), weight[:2]], [weight[:2], weight], [weight]):
        assert hold(other).key.split("_")[0] != held.key.split("_")[0]
    first, second = torch.ops.qegraph.constants(held.key)
    assert torch.equal(first, weight) and torch.equal(second, weight[:2])
    key = held.key
    del held
    with pytest.raises(RuntimeError, match=f"no constants {key} in this process"):
        torch.ops.qegraph.constants(key)


def test_exported_graph(given: Given) -> None:
    gm = b.net(lambda m, n, x: n(fq(F.relu(m(fq(x))), OUT)), [Linear(), Linear(16, 8)], [rows()])
    b.agrees(gm, compiled(gm), [rows()])
    assert given.kinds() == [LINEARS]


@pytest.mark.parametrize("kernels", ["auto", "onednn"])
def test_without_native_kernels(kernels: str, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable", lambda: "no compiler")
    model = perceptron()
    b.agrees(model, compiled(model, {**INT8, "kernels": kernels}), [rows()])  # pyright: ignore[reportArgumentType]
    assert b.kinds(given.modules[0]) == ["qlinear_pointwise.default"] * 2


def test_several_graphs_as_parts_of_one(given: Given) -> None:
    x = rows()
    parts = [b.net(lambda m, x: m(fq(x)), [Linear()], [x]) for _ in range(2)]
    model = Net(lambda m, n, x: (m(x), n(x * 2)), parts)
    b.agrees(model, compiled(model), [x])  # pyright: ignore[reportArgumentType]
    assert given.kinds() == [LINEARS]


def broken(m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
    y = F.relu(m(fq(x)))
    torch._dynamo.graph_break()  # pyright: ignore[reportPrivateUsage]
    y = y.sin()
    torch._dynamo.graph_break()  # pyright: ignore[reportPrivateUsage]
    return n(fq(y, OUT))


def test_graph_breaks(given: Given) -> None:
    """Each piece on its own; what quantizes nothing is Inductor's, as it came."""
    model = Net(broken, [Linear(), Linear(16, 8)])
    fast = compiled(model)
    b.agrees(model, fast, [rows()])  # pyright: ignore[reportArgumentType]
    assert given.kinds() == [LINEARS[:1], [], LINEARS[:1]]
    assert given.settings[1] == {}
    assert [bool(each.unchanged) for each in qegraph.compiled_reports()[-3:]] == [False, True, False]
    assert len(qegraph.compiled_reports(fast)) == 2
    with pytest.raises(qegraph.QegraphError, match=r"2 graphs: qegraph.compiled_reports"):
        qegraph.explain(fast)


@pytest.mark.parametrize("is_marked", [False, True])
def test_dynamic_batch(given: Given, is_marked: bool) -> None:
    model = Net(lambda m, n, x: n(fq(F.relu(m(fq(x))), OUT).flatten(1)), [Conv(), Linear(8 * 49, 8)])
    fast = compiled(model, dynamic=None if is_marked else True)
    first = torch.randn(3, 8, 7, 7)
    if is_marked:
        torch._dynamo.mark_dynamic(first, 0)  # pyright: ignore[reportPrivateUsage]
    b.agrees(model, fast, [first])  # pyright: ignore[reportArgumentType]
    with torch.compiler.set_stance("fail_on_recompile"):
        b.agrees(model, fast, [torch.randn(6, 8, 7, 7)])  # pyright: ignore[reportArgumentType]
    assert given.kinds() == [["qconv", "qlinear"]]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes(given: Given, mode: Callable[[], Any]) -> None:
    model, x = perceptron(), rows()
    for part, size in zip(model.parts, (16, 8), strict=True):
        del part.bias
        part.register_parameter("bias", nn.Parameter(torch.randn(size)))
    fast = compiled(model)
    with mode():
        torch.testing.assert_close(fast(x), model(x), rtol=0, atol=1e-5)
    assert given.kinds() == [LINEARS]


@pytest.mark.parametrize("is_inside", [False, True])
def test_autocast(given: Given, is_inside: bool) -> None:
    """Its casts are in the graph, and it is off while the graph runs."""

    def function(m: Linear, x: Tensor) -> Tensor:
        if not is_inside:
            return torch.mm(m(fq(x)), m.weight())
        with torch.autocast("cpu", torch.bfloat16):
            return torch.mm(m(fq(x)), m.weight())

    model, x = Net(function, [Linear()]), rows()
    fast = compiled(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not is_inside):
        found, wanted = fast(x), model(x)
        assert torch.is_autocast_enabled("cpu") is not is_inside
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2 * float(wanted.abs().max()))
    assert len(given.modules) == 1


def test_autocast_with_a_dynamic_batch_is_left_alone(given: Given) -> None:
    """Never fixed to the first batch."""
    model, x = perceptron(), rows()
    torch._dynamo.mark_dynamic(x, 0)  # pyright: ignore[reportPrivateUsage]
    refusal = pytest.warns(UserWarning, match="autocast with dynamic shapes; compile with dynamic=False")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), refusal:
        compiled(model)(x)


def test_shared_and_repeated_inputs(given: Given) -> None:
    x = rows()
    model = Net(lambda m, x, y: (m(fq(x)) + m(fq(y)), x), [Linear()])
    b.agrees(model, compiled(model), [x, x])  # pyright: ignore[reportArgumentType]
    assert len(given.modules) == 1


# ---- state is constant


def test_state_is_not_passed_on_each_call(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    from qegraph.compiling.run import Code

    counts: list[int] = []
    call = Code.__call__
    monkeypatch.setattr(Code, "__call__", lambda self, *args: (counts.append(len(args)), call(self, *args))[1])
    compiled(perceptron())(rows())
    assert counts == [1]


def test_another_parameter_compiles_again(given: Given) -> None:
    model, x = perceptron(), rows()
    fast = compiled(model)
    fast(x)
    model.parts[0].bias = torch.randn(16)
    b.agrees(model, fast, [x])  # pyright: ignore[reportArgumentType]
    assert len(given.modules) == 2


def test_a_write_in_place_is_noticed(given: Given) -> None:
    model, x = perceptron(), rows()
    fast = compiled(model)
    fast(x)
    other = perceptron()
    model.load_state_dict(other.state_dict())
    with pytest.warns(UserWarning, match=r"written in place.*torch.compiler.reset"):
        found = fast(x)
    assert torch.equal(found, other(x))
    torch.compiler.reset()
    b.agrees(other, fast, [x])  # pyright: ignore[reportArgumentType]
    assert len(given.modules) == 2


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rule": ["default"]},
            r"option 'rule' is none of .*: rules, cost, budget, require, kernels, mode; did you mean rules\?",
        ),
        ({"mode": "fast"}, r"option mode .* must be 'default' or 'tuned', got 'fast'"),
        ({"cost": "measured"}, r"option cost .* must be 'estimated' or a function of \(snapshot, e-node\)"),
        ({"require": "int4"}, r"option require .* must be None or 'int8'"),
        ({"budget": 3}, r"option budget .* must be a qegraph.Budget, got 3"),
        ({"rules": ["residul"]}, r"residul.*did you mean residual"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str, given: Given) -> None:
    with pytest.raises(Exception, match=message) as caught:
        compiled(perceptron(), options)(rows())
    assert type(caught.value).__name__ == "BackendCompilerFailed"  # torch's own; what we raise is in it
    assert given.modules == []


def test_mode_of_compile_is_ours() -> None:
    with pytest.raises(Exception, match="option mode of backend 'qegraph' must be 'default' or 'tuned'"):
        torch.compile(perceptron(), backend=qegraph.backend, mode="max-autotune")(rows())


def test_require_is_an_error_not_a_warning(given: Given) -> None:
    model = Net(lambda x, y: fq(x) @ fq(y, IN).transpose(0, 1))
    with pytest.raises(Exception, match="the weight must be a constant"):
        compiled(model, {"require": "int8"})(rows(), rows())


def test_rules_are_heeded(given: Given) -> None:
    model = perceptron()
    for rules in (["default"], []):
        torch.compiler.reset()
        b.agrees(model, compiled(model, {**INT8, "rules": rules}), [rows()])  # pyright: ignore[reportArgumentType]
    assert given.kinds() == [LINEARS, []]


# ---- what is left to Inductor


def test_training(given: Given) -> None:
    model, x = perceptron(), rows().requires_grad_()
    with pytest.warns(UserWarning, match=r"gradients are enabled.*torch.no_grad"):
        found = compiled(model)(x)
    assert torch.equal(found, model(x)) and b.kinds(given.modules[0]) == []
    assert "gradients" in qegraph.compiled_reports()[-1].unchanged


class Counter(nn.Module):
    """Writes to its buffer, which optimising would have to hide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = Linear(), nn.Buffer(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.linear(fq(x)) + self.calls


def test_what_writes_to_its_state(given: Given) -> None:
    model, x = Counter(), rows()
    fast = compiled(model)
    with pytest.warns(UserWarning, match="leaves a graph to Inductor.*calls"):
        first = fast(x)
    assert torch.equal(fast(x), first + 1) and model.calls == 2
    assert "calls" in qegraph.explain(fast).unchanged


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (qegraph.CaptureError("call 'x' can't run"), "CaptureError: call 'x' can't run"),
        (qegraph.Unsupported("it writes"), "Unsupported: it writes"),
        (KeyError(7), r"a defect of qegraph, please report it: KeyError\(7\)"),
    ],
)
def test_what_cannot_be_read(error: Exception, message: str, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("qegraph.compiling.dynamo.optimize", refuse)
    model, x = perceptron(), rows()
    with pytest.warns(UserWarning, match=message) as caught:
        assert torch.equal(compiled(model, {})(x), model(x))
    assert len([each for each in caught if "leaves a graph" in str(each.message)]) == 1


def test_errors_of_the_caller_are_raised(given: Given) -> None:
    def cost(*_: Any) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(Exception, match="ZeroDivisionError: mine"):
        compiled(perceptron(), {"cost": cost})(rows())


def test_float_model(given: Given) -> None:
    model = nn.Linear(24, 8).requires_grad_(False)
    fast = compiled(model)
    fast(rows())
    assert given.settings == [{}]
    assert qegraph.explain(fast).unchanged == "nothing in it is quantized"


# ---- how Inductor is asked


def test_float_weights_are_packed_by_inductor(given: Given) -> None:
    """And its patterns don't find what was left float."""
    model = Net(lambda m, n, x: n(fq(m(fq(x)), OUT)), [Linear(), nn.Linear(16, 8).requires_grad_(False)])
    b.agrees(model, compiled(model), [rows()])  # pyright: ignore[reportArgumentType]
    assert given.settings[0]["freezing"] is True
    assert b.has(given.modules[0], "dequantize_per") == 0 and given.kinds() == [LINEARS[:1]]


# ---- reports


def test_reports(given: Given) -> None:
    model = perceptron()
    fast = compiled(model)
    with pytest.raises(qegraph.QegraphError, match="call it once"):
        qegraph.explain(fast)
    fast(rows())
    assert qegraph.explain(fast).summary.startswith("2 linear: 2 int8 (1 with fused post-op)")
    assert "qlinear" in qegraph.explain(fast, "tree")
    assert qegraph.compiled_reports()[-1:] == qegraph.compiled_reports(fast)
    assert qegraph.compiled_reports(torch.compile(perceptron())) == ()
    torch.compiler.reset()
    given.modules.clear()
    gc.collect()
    assert qegraph.compiled_reports(fast) == ()


# ---- registration


_LIGHT = """
import sys, qegraph
print([name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))])
"""


def test_import_stays_light() -> None:
    run = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_entry_point() -> None:
    text = (Path(qegraph.__file__).parent.parent / "pyproject.toml").read_text()
    group = tomllib.loads(text)["project"]["entry-points"]["torch_dynamo_backends"]
    assert EntryPoint("qegraph", group["qegraph"], "torch_dynamo_backends").load() is qegraph.backend
