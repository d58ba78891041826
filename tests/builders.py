"""Small q/dq graphs written by hand, and what is asserted of their optimised forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

import qegraph
from qegraph.borders import clamp
from qegraph.coverage.contract import disagreement
from qegraph.coverage.parts import IN as IN
from qegraph.coverage.parts import IN_S8 as IN_S8
from qegraph.coverage.parts import OUT as OUT
from qegraph.coverage.parts import OUT_S8 as OUT_S8
from qegraph.coverage.parts import QP as QP
from qegraph.coverage.parts import WIDE as WIDE
from qegraph.coverage.parts import Conv as Conv
from qegraph.coverage.parts import Linear as Linear
from qegraph.coverage.parts import Net, build, core_decompositions
from qegraph.coverage.parts import Weight as Weight
from qegraph.coverage.parts import dq as dq
from qegraph.coverage.parts import fq as fq
from qegraph.coverage.parts import image as image
from qegraph.coverage.parts import q as q
from qegraph.coverage.parts import usual as usual
from qegraph.fuzz.forms import int8_first as int8_first
from qegraph.kernels import adds_in_32_bits
from qegraph.kernels import highest_exact_code as highest_exact_code

FULL, FULL_OUT = QP(0.031, 113), QP(0.037, 91)
"""Those of `IN` and `OUT` for codes that no product reads: of the whole range on any CPU."""
READS_INT8 = adds_in_32_bits()
"""int8 activations, too, are multiplied exactly: without VNNI they saturate, or oneDNN's reference code runs."""

full_range = pytest.mark.skipif(
    not READS_INT8, reason="is about products of int8 or full-range uint8 activations, which stay float without VNNI"
)

CLAMPS = (torch.ops.aten.clamp.default, clamp)

RETURNS = pytest.mark.parametrize("quantized", [True, False], ids=["codes", "float"])
"""What the graph of a test returns: see `out`."""
Fn = Callable[..., Tensor]
Make = Callable[..., GraphModule]
Build = Callable[[fx.Graph, fx.Node], fx.Node]


def net(function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor]) -> GraphModule:
    """The graph of `function(*parts, *inputs)`; not strict, which gives the same one in a third of the time."""
    return build(Net(function, parts), inputs, strict=False)


def decomposed(function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor]) -> GraphModule:
    """The same with linears as mm, addmm, view, permute, expand and bmm.

    As `run_decompositions` of the exported program gives it (`test_decomposed.py` compares), in a tenth of the time;
    but for batch norms, and without its assertions about dtypes.
    """
    trace = make_fx(Net(function, parts), core_decompositions(), "fake", _allow_non_fake_inputs=True)
    return trace(*inputs)


def decomposed_by_torch(
    function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor]
) -> GraphModule:
    """The same by `run_decompositions` itself."""
    return build(Net(function, parts), inputs, decompose=True, strict=False)


def rows(rank: int, features: int = 24) -> Tensor:
    return torch.randn(*(2, 5, 3)[: rank - 1], features) * 2


def out(x: Tensor, quantized: bool) -> Tensor:
    return q(x, OUT) if quantized else x


def graph_of(build: Build, constants: dict[str, Tensor] | None = None) -> GraphModule:
    """The graph of build(graph, input)."""
    graph = fx.Graph()
    graph.output(build(graph, graph.placeholder("x")))
    return GraphModule(constants or {}, graph)


def checked(gm: GraphModule, inputs: Sequence[Tensor], rel: float = 1e-5) -> GraphModule:
    """optimize(gm), after asserting all of `agrees`. Tests are too small for int8 to pay, so its price is no matter."""
    code = gm.code
    fast = qegraph.optimize(gm, cost=int8_first)
    assert gm.code == code, "the input graph was changed"
    agrees(gm, fast, inputs, rel)
    return fast


def agrees(gm: GraphModule, fast: Callable[..., Any], inputs: Sequence[Tensor], rel: float = 1e-5) -> None:
    """Codes within 1 LSB on at most 0.01 % (or one), floats within `rel` of the largest, and calls leave no trace."""
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        wanted = [w.clone() for w in pytree.tree_leaves(gm(*inputs))]
        found = pytree.tree_leaves(fast(*inputs))
        first = [f.clone() for f in found]
        again = pytree.tree_leaves(fast(*inputs))
    for old, now in zip(before, inputs, strict=True):
        assert torch.equal(old, now), "an input was overwritten"
    for f, kept, a in zip(found, first, again, strict=True):
        assert torch.equal(kept, a), "the second call differs"
        assert torch.equal(f, kept), "the second call overwrote the first one's result"
    for w, f in zip(wanted, found, strict=True):
        problem = disagreement(w, f, rel)
        assert problem is None, problem


def kinds(fast: GraphModule) -> list[str]:
    """The oneDNN kernels called, e.g. ["qlinear_pointwise.default"]."""
    names = [str(node.target) for node in fast.graph.nodes if node.op == "call_function"]
    return [name.removeprefix("onednn.") for name in names if name.startswith("onednn.")]


def has(fast: GraphModule, name: str) -> int:
    """How many calls have `name` in their operator's name."""
    return sum(name in str(node.target) for node in fast.graph.nodes if node.op == "call_function")


def borders(fast: GraphModule) -> tuple[int, int]:
    """How many quantize and dequantize calls there are."""
    dequantize = has(fast, "dequantize_per")
    return has(fast, "quantize_per") - dequantize, dequantize


def post_ops(fast: GraphModule) -> list[str]:
    """What each int8 kernel takes in, in order: e.g. ["", "relu", "add+relu"].

    Without VNNI, a clamp to the codes of `OUT` is not told: what is left of the post-op without it is.
    """
    told = [(each.name, "+".join(each.post_ops)) for each in qegraph.explain(fast).contractions if each.int8]
    if highest_exact_code() < FULL_OUT.hi:
        nodes = {node.name: node for node in fast.graph.nodes}
        return [_without_narrowing(nodes[name], post_op) for name, post_op in told]
    return [post_op for _, post_op in told]


def _without_narrowing(node: fx.Node, post_op: str) -> str:
    """The post-op of a kernel whose clamp, in it or behind it, keeps codes within 0..127."""
    at = next(i for i, each in enumerate(node.args) if isinstance(each, torch.dtype))
    args: tuple[Any, ...] = node.args
    scale, zp = args[at - 2 : at]
    if post_op == "hardtanh":
        low, high = next(each for each in args[at:] if isinstance(each, (list, tuple)))
        if high == pytest.approx((OUT.hi - zp) * scale):
            return "relu" if low == 0 else "" if low == pytest.approx(-zp * scale) else post_op
    if args[at].is_floating_point:
        return post_op
    while len(node.users) == 1 and node.target not in CLAMPS:
        node = next(iter(node.users))
    is_relu = node.target in CLAMPS and node.args[1] == zp
    return "add+relu" if post_op == "add" and is_relu else post_op


def stays_float(fast: GraphModule) -> str:
    """The reason reported for the one contraction that stays float; no kernel may be called."""
    assert kinds(fast) == [] and post_ops(fast) == []
    floats = qegraph.explain(fast).floats()
    assert len(floats) == 1 and floats[0].reason, str(qegraph.explain(fast))
    return floats[0].reason
