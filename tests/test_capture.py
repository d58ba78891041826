"""Capture agrees exactly with the graph it reads, and says so when it can't."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from builders import graph_of
from captured import (
    BATCH,
    IMAGE,
    Residual,
    as_graph_module,
    assert_equal,
    check,
    exported,
    is_fake,
    quantized,
    run,
    targets,
    value_of,
)
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, export
from torch.fx.experimental.proxy_tensor import make_fx

from qegraph.capture import Attribute, Method, capture
from qegraph.errors import CaptureError
from qegraph.program import Ref

aten = torch.ops.aten
qd = torch.ops.quantized_decomposed


# torch deep-copies its own tree specs while it decomposes a program
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def residual() -> fx.GraphModule:
    torch.manual_seed(0)
    return quantized(Residual(), IMAGE)


@pytest.fixture(scope="module")
def dynamic_residual() -> fx.GraphModule:
    torch.manual_seed(0)
    return quantized(Residual(), IMAGE, BATCH)


# ---- torchao models


def test_quantized_residual(residual: fx.GraphModule) -> None:
    program = check(residual, IMAGE)
    found = targets(program)
    assert found.count(aten.relu.default) == 2
    assert aten.add.Tensor in found
    assert aten.dropout.default not in found
    assert program.class_name == "GraphModule"
    assert value_of(program, "dropout") is value_of(program, "mean")
    assert [program.values[i].target for i in program.effects] == ["_guards_fn"]
    names = {node.name for node in residual.graph.nodes if node.op != "output"}
    assert names - program.source_nodes.keys() == set()


def test_dynamic_batch(dynamic_residual: fx.GraphModule) -> None:
    program = check(dynamic_residual, IMAGE, (torch.randn(5, 3, 8, 8),))
    fake = value_of(program, "linear").fake
    assert isinstance(fake.shape[0], torch.SymInt)
    assert fake.shape[1] == 4


def test_dynamic_quantization() -> None:
    inputs = (torch.randn(3, 8),)
    gm = quantized(nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)), inputs, is_dynamic=True)
    program = check(gm, inputs)
    assert qd.choose_qparams.tensor in targets(program)
    assert operator.getitem in targets(program)


def test_capture_is_deterministic(residual: fx.GraphModule) -> None:
    first, second = capture(residual), capture(residual)
    assert [(v.target, v.args, v.name) for v in first.values] == [(v.target, v.args, v.name) for v in second.values]
    assert first.source_nodes == second.source_nodes


def test_exported_program_and_decompositions(dynamic_residual: fx.GraphModule) -> None:
    again = export(dynamic_residual, IMAGE, dynamic_shapes=BATCH)
    inputs = (torch.randn(3, 3, 8, 8),)
    with torch.no_grad():
        assert_equal(dynamic_residual(*inputs), run(capture(again), *inputs))
    decomposed = again.run_decompositions()
    program = check(as_graph_module(decomposed.module()), inputs)
    assert aten.convolution.default in targets(program)
    assert aten.addmm.default in targets(program)


def test_make_fx_graph() -> None:
    linear = nn.Linear(4, 3)

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(linear(x))

    inputs = (torch.randn(2, 4),)
    gm = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    check(gm, inputs, (torch.randn(7, 4),))


def test_a_conversion_to_the_dtype_a_value_has_is_the_value() -> None:
    class Converts(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            y = x * 2
            z = y.float()
            z += 1
            return y, z.to(torch.float32, copy=True), x.float().double()

    program = check(as_graph_module(export(Converts(), (torch.randn(2, 3),)).module()), (torch.randn(2, 3),))
    conversions = [value for value in program.values if value.target in (aten.to.dtype, aten._to_copy.default)]
    assert sorted(str(each.args[1]) for each in conversions) == ["torch.float32", "torch.float64"]


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model = Tied()
    program = check(fx.symbolic_trace(Inlined(model)), (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert len(program.constants) == 3
    assert any(tensor is model.first.weight for tensor in program.constants.values())


class Inlined(nn.Module):
    """Reads two linears' parameters directly, so that symbolic tracing shows them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.model.first, self.model.second
        return aten.linear(aten.linear(x, first.weight, first.bias), second.weight, second.bias)


def test_nested_inputs_and_outputs() -> None:
    def function(x: Mapping[str, torch.Tensor], pair: Sequence[torch.Tensor]) -> Any:
        return {"sum": x["a"] + pair[0], "rest": (pair[1] * 2, [x["b"]])}

    inputs = ({"a": torch.randn(2), "b": torch.randn(3)}, (torch.randn(2), torch.randn(4)))
    check(exported(function, inputs), inputs)


def test_symbolic_sizes_through_python_functions() -> None:
    def function(x: torch.Tensor) -> Any:
        return x.reshape(x.shape[0] * 2, -1), x.shape[0] * 2, torch.ones(x.shape[0])

    inputs = (torch.randn(4, 2, 3),)
    program = check(exported(function, inputs, ({0: Dim.AUTO},)), inputs, (torch.randn(6, 2, 3),))
    assert operator.mul in targets(program)


def test_what_is_switched_on_around_capture_does_not_matter(residual: fx.GraphModule) -> None:
    plain = [v.fake.dtype for v in capture(residual).values if is_fake(v.fake)]
    with torch.autocast("cpu"), torch.inference_mode():
        assert [v.fake.dtype for v in capture(residual).values if is_fake(v.fake)] == plain


# ---- arguments


def test_arguments_follow_the_schema() -> None:
    x = torch.randn(1, 2, 5, 5)
    spellings = [
        graph_of(lambda graph, x: graph.call_function(aten.avg_pool2d.default, (x, [2, 2]))),
        graph_of(lambda graph, x: graph.call_function(aten.avg_pool2d, (x, 2), {"divisor_override": None})),
        graph_of(lambda graph, x: graph.call_function(aten.avg_pool2d.default, (), {"self": x, "kernel_size": (2, 2)})),
    ]
    calls = [check(gm, (x,), examples=(x,)).values[-1] for gm in spellings]
    assert all(call.target is aten.avg_pool2d.default for call in calls)
    assert all(call.args == (Ref(0), [2, 2], [], [0, 0], False, True, None) for call in calls)


def test_packets_resolve_to_overloads() -> None:
    gm = graph_of(lambda graph, x: graph.call_function(aten.add, (x, 2), {"alpha": 3}))
    call = check(gm, (torch.randn(2),), examples=(torch.randn(2),)).values[-1]
    assert (call.target, call.args) == (aten.add.Tensor, (Ref(0), 2, 3))


def test_memory_format_default_is_named() -> None:
    gm = graph_of(lambda graph, x: graph.call_function(aten.contiguous.default, (x,)))
    call = check(gm, (torch.randn(2, 3).t(),), examples=(torch.randn(2, 3).t(),)).values[-1]
    assert call.args == (Ref(0), torch.contiguous_format)


@pytest.mark.parametrize("args, kwargs", [((1, 2, 3, 4), {}), ((), {}), ((), {"x": 1})])
def test_malformed_calls(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    gm = graph_of(lambda graph, x: graph.call_function(aten.relu.default, args, kwargs))
    with pytest.raises(CaptureError, match=r"node 'relu_default'.*relu\(Tensor self\)"):
        capture(gm, (torch.randn(2),))


# ---- shapes


def test_missing_shapes() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    gm = fx.symbolic_trace(function)
    with pytest.raises(CaptureError, match=r"node 'x'.*pass example_inputs"):
        capture(gm)
    with pytest.raises(CaptureError, match="1 entries; the graph takes 2: x, y"):
        capture(gm, (torch.randn(2),))
    check(gm, (torch.randn(2), torch.randn(2)), examples=(torch.randn(2), torch.randn(2)))


def test_stale_fake_values_are_recomputed(dynamic_residual: fx.GraphModule) -> None:
    gm = as_graph_module(export(dynamic_residual, IMAGE).module())
    relu = next(node for node in gm.graph.nodes if node.target is aten.relu_.default)
    relu.meta["val"] = "stale"
    assert is_fake(value_of(capture(gm), relu.name).fake)


@torch.library.custom_op("qegraph_test::no_fake", mutates_args=())
def no_fake(x: torch.Tensor) -> torch.Tensor:
    """An operator that can't run on fake values."""
    return x.clone()


def test_an_operator_without_fake_values() -> None:
    gm = graph_of(lambda graph, x: graph.call_function(torch.ops.qegraph_test.no_fake.default, (x,)))
    with pytest.raises(CaptureError, match=r"node 'no_fake_default' \[call_function qegraph_test.no_fake") as caught:
        capture(gm, (torch.randn(2),))
    assert caught.value.__cause__ is not None
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(2))
    for node in gm.graph.nodes:
        node.meta["val"] = fake
    check(gm, (torch.randn(2),))


def test_data_dependent_sizes() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(x.nonzero() * 2)

    check(exported(function, (torch.randn(5),)), (torch.tensor([0.0, 1.0, 2.0]).repeat(2)[:5],))


def test_integer_and_none_inputs() -> None:
    def function(x: torch.Tensor, n: int, none: None) -> torch.Tensor:
        return aten.mul.Scalar(x, n)

    gm = fx.symbolic_trace(function)
    inputs = (torch.randn(2), 3, None)
    check(gm, inputs, examples=inputs)


# ---- modules, methods, attributes


def test_modules_are_shared_calls() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    gm = fx.symbolic_trace(model)
    program = check(gm, (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert [value.kind for value in program.values] == ["input", "module", "module"]
    assert program.modules["0"] is gm.get_submodule("0")
    assert len(program.effects) == 2


def test_methods_stay_methods() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.permute(1, 0).mean(dim=1)

    gm = fx.symbolic_trace(function)
    program = check(gm, (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert targets(program) == [Method("permute"), Method("mean")]
    assert program.values[2].kwargs == {"dim": 1}


def increment(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_control_flow_bodies_are_attributes() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, increment, double, (x,))

    inputs = (torch.randn(3),)
    program = check(exported(function, inputs), inputs, (-torch.ones(3),), (torch.ones(3),))
    assert sum(isinstance(target, Attribute) for target in targets(program)) == 2


def test_exported_no_grad_block() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        with torch.no_grad():
            y = y * 2
        return y.relu_()

    grad = torch.is_grad_enabled()
    check(exported(function, (torch.randn(3),)), (torch.randn(3),))
    assert torch.is_grad_enabled() == grad


def test_missing_attribute() -> None:
    gm = fx.GraphModule({"w": torch.randn(2)}, fx.Graph())
    gm.graph.output(gm.graph.create_node("get_attr", "nowhere.weight"))
    with pytest.raises(CaptureError, match=r"no attribute 'nowhere\.weight'"):
        capture(gm, ())


# ---- size


def _deep(nodes: int) -> fx.GraphModule:
    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        args = (0.1, 128, 0, 255, torch.uint8)
        while len(graph.nodes) < nodes:
            x = graph.call_function(qd.quantize_per_tensor.default, (x, *args))
            x = graph.call_function(qd.dequantize_per_tensor.default, (x, *args))
            x = graph.call_function(aten.view.default, (x, [4, 2]))
            x = graph.call_function(aten.add.Tensor, (x, x))
            x = graph.call_function(aten.relu_.default, (x,))
        return x

    return graph_of(make)


@pytest.mark.usefixtures("no_garbage_collection")
def test_ten_thousand_nodes() -> None:
    """Ten times the nodes take about ten times as long."""
    times: list[float] = []
    for nodes in (1_000, 10_000):
        gm = _deep(nodes)
        start = time.thread_time()
        program = check(gm, examples=(torch.randn(4, 2),))
        times.append(time.thread_time() - start)
        assert len(program.values) >= nodes - 1
    assert times[1] <= times[0] * 10**1.3
