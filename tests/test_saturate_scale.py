"""Saturation takes time linear in the size of the graph."""

from __future__ import annotations

import statistics

import pytest
import torch
from builders import graph_of
from torch import fx

from qegraph.capture import capture
from qegraph.search import search

qd, aten = torch.ops.quantized_decomposed, torch.ops.aten
ROUNDS = 3


def layers(depth: int) -> fx.GraphModule:
    """quantize -> linear -> relu -> quantize -> a product with codes that is scaled; and each layer's input added."""
    constants = {
        "codes": torch.randint(-127, 128, (8, 8), dtype=torch.int8),
        "scales": torch.rand(8) * 0.01 + 0.001,
        "zeros": torch.zeros(8, dtype=torch.int64),
    }

    def fake_quantized(graph: fx.Graph, x: fx.Node, step: float) -> fx.Node:
        args = (step, 128, 0, 255, torch.uint8)
        codes = graph.call_function(qd.quantize_per_tensor.default, (x, *args))
        return graph.call_function(qd.dequantize_per_tensor.default, (codes, *args))

    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        codes, scales, zeros = (graph.get_attr(name) for name in constants)
        for i in range(depth):
            weight = graph.call_function(
                qd.dequantize_per_channel.default, (codes, scales, zeros, 0, -128, 127, torch.int8)
            )
            read = fake_quantized(graph, x, 0.05 + i * 1e-5)
            y = graph.call_function(aten.relu.default, (graph.call_function(aten.linear.default, (read, weight)),))
            y = fake_quantized(graph, y, 0.04 + i * 1e-5)
            cast = graph.call_function(aten.to.dtype, (codes, torch.float32))
            z = graph.call_function(aten.mul.Tensor, (graph.call_function(aten.linear.default, (y, cast)), scales))
            x = graph.call_function(aten.add.Tensor, (z, x))
        return x

    return graph_of(make, constants)


@pytest.mark.usefixtures("no_garbage_collection")
def test_nearly_linear() -> None:
    """10 times the layers take at most 10^1.3 times as long (medians): no guard joins all values of a dtype."""
    programs = {depth: capture(layers(depth), (torch.randn(2, 8),)) for depth in (25, 250)}
    times: dict[int, list[float]] = {depth: [] for depth in programs}
    for _ in range(ROUNDS):
        for depth, program in programs.items():
            found = search(program)
            assert not found.saturation.limit
            times[depth].append(found.saturation.seconds)
    short, long = (statistics.median(each) for each in times.values())
    print(f"{short:.3f} s, {long:.3f} s")
    assert long <= short * 10**1.3
