"""Uses nobody should make of a graph: a backward pass through int8 kernels, and 50,000 nodes."""

from __future__ import annotations

import subprocess
import sys

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import Linear, fq, net
from torch import nn

import qegraph
from qegraph.fuzz.forms import int8_first


def test_gradients_are_not_lost_in_silence() -> None:
    """A parameter that requires a gradient gives none through an int8 kernel, and torch says so."""
    x = torch.linspace(-3, 3, 96).reshape(4, 24)
    gm = net(lambda m, bias, x: F.linear(fq(x), m.weight(), bias.p), [Linear(), _Bias()], [x])
    fast = qegraph.optimize(gm, cost=int8_first)
    assert len(b.kinds(fast)) == 1
    with pytest.warns(UserWarning, match=r"onednn::qlinear_pointwise: an autograd kernel was not registered"):
        fast(x).sum().backward()


class _Bias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(16))


_MANY = r"""
import pathlib, re, sys, time, warnings; warnings.simplefilter("ignore")
import torch, qegraph
torch.set_num_threads(1)
qd, aten = torch.ops.quantized_decomposed, torch.ops.aten
graph = torch.fx.Graph()
x = graph.placeholder("x")
root = {"codes": torch.randint(-127, 128, (8, 8), dtype=torch.int8), "scales": torch.rand(8) * 0.01 + 0.001}
root["zeros"] = torch.zeros(8, dtype=torch.int64)
constants = [graph.get_attr(name) for name in root]
weight = graph.call_function(qd.dequantize_per_channel.default, (*constants, 0, -128, 127, torch.int8))
while len(graph.nodes) < int(sys.argv[1]):
    args = (0.05, 128 - len(graph.nodes) % 7, 0, 255, torch.uint8)
    codes = graph.call_function(qd.quantize_per_tensor.default, (x, *args))
    real = graph.call_function(qd.dequantize_per_tensor.default, (codes, *args))
    y = graph.call_function(aten.relu.default, (graph.call_function(aten.linear.default, (real, weight)),))
    x = graph.call_function(aten.add.Tensor, (y, x))
graph.output(x)
gm = torch.fx.GraphModule({name: torch.nn.Buffer(each) for name, each in root.items()}, graph)
inputs, start = (torch.randn(2, 8),), time.perf_counter()
fast = qegraph.optimize(gm, inputs, budget=qegraph.Budget(seconds=60.0))
seconds = time.perf_counter() - start
torch.testing.assert_close(fast(*inputs), gm(*inputs))
print(qegraph.explain(fast).summary)
peak = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 2**20
print("measured", len(graph.nodes), seconds, peak)
"""


@pytest.mark.zoo
def test_fifty_thousand_nodes_end() -> None:
    """Five times what is asked to be linear in `test_optimize`: it ends, and in memory that a machine has."""
    run = subprocess.run(
        [sys.executable, "-c", _MANY, "50000"], capture_output=True, text=True, check=True, timeout=3600
    )
    nodes, seconds, peak = map(float, run.stdout.partition("measured")[2].split())
    print(run.stdout)
    assert nodes >= 50_000 and "9999 linear" in run.stdout
    assert seconds <= 0.02 * nodes and peak < 12
