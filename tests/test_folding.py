"""What capture does itself: impure calls stay, identities go, constants are folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from builders import graph_of
from captured import check, targets
from torch import fx, nn

from qegraph.program import Program, Ref

aten: Any = torch.ops.aten
qd: Any = torch.ops.quantized_decomposed


def test_impure_calls_are_kept() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        graph.call_function(aten.rand_like.default, (x,))
        graph.call_function(aten.relu.default, (x,))
        graph.call_function(aten._assert_async.msg, (graph.call_function(aten.any.default, (x,)), "no"))
        graph.call_function(aten.dropout.default, (x, 0.5, True))
        graph.call_function(aten.bernoulli_.float, (graph.call_function(aten.clone.default, (x,)),))
        return graph.call_function(aten.scaled_dot_product_attention.default, (x, x, x))

    program = check(graph_of(make), examples=(torch.ones(1, 2, 4),))
    effects = [program.values[index].target for index in program.effects]
    assert effects == [aten.rand_like.default, aten._assert_async.msg, aten.dropout.default, aten.bernoulli.p]
    assert aten.relu.default not in targets(program)
    assert program.values[-1].pure


def test_identities_are_not_values_but_clones_are() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> Any:
        detached = graph.call_function(aten.detach.default, (x,))
        aliased = graph.call_function(aten.alias.default, (detached,))
        dropped = graph.call_function(aten.dropout.default, (aliased, 0.5, False))
        return graph.call_function(aten.clone.default, (dropped,)), dropped

    program = check(graph_of(make), (torch.randn(2),), examples=(torch.randn(2),))
    assert targets(program) == [aten.clone.default]
    assert program.output == (Ref(1), Ref(0))
    assert program.source_nodes == {"x": 0, "detach_default": 0, "alias_default": 0, "dropout_default": 0} | {
        "clone_default": 1
    }


def folded(make: Callable[[fx.Graph, fx.Node, fx.Node], Any]) -> Program:
    graph = fx.Graph()
    x, weight = graph.placeholder("x"), graph.get_attr("weight")
    graph.output(make(graph, x, weight))
    root = {"weight": nn.Parameter(torch.randn(3, 4), requires_grad=False)}
    return check(fx.GraphModule(root, graph), (torch.randn(2, 4),), examples=(torch.randn(2, 4),))


def test_constants_are_folded() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        args = (0.1, 0, -128, 127, torch.int8)
        quantized = graph.call_function(qd.quantize_per_tensor.default, (weight, *args))
        dequantized = graph.call_function(qd.dequantize_per_tensor.default, (quantized, *args))
        turned = graph.call_function(aten.t.default, (dequantized,))
        direct = graph.call_function(aten.permute.default, (weight, [1, 0]))
        return graph.call_function(aten.mm.default, (x, turned)), graph.call_function(aten.mm.default, (x, direct))

    program = folded(make)
    assert program.constants.keys() == {"_folded_quantize_per_tensor_default", "_folded_permute_default"}
    assert program.constants["_folded_quantize_per_tensor_default"].dtype == torch.int8
    assert qd.quantize_per_tensor.default not in targets(program)
    assert {qd.dequantize_per_tensor.default, aten.t.default} <= set(targets(program))


def test_returned_copies_of_constants_stay_calls() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        copy = graph.call_function(aten.clone.default, (weight,))
        return graph.call_function(aten.view.default, (copy, [4, 3]))

    assert targets(folded(make)) == [aten.clone.default, aten.view.default]


def test_writes_to_copies_of_constants() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        copy = graph.call_function(aten.lift_fresh_copy.default, (weight,))
        graph.call_function(aten.add_.Tensor, (copy, 1))
        return graph.call_function(aten.linear.default, (x, copy))

    assert targets(folded(make)) == [aten.add.Tensor, aten.linear.default]
