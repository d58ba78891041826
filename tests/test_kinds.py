"""One contraction as another of the same value: each alternative is made to win by a cost, and its numbers compared."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable, Sequence

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, OUT, QP, Conv, fq, net, q
from torch import Tensor, nn
from torch.fx import GraphModule

import qegraph
from qegraph.pricing import default_cost
from qegraph.snapshot import ENode, Snapshot


def made_dear(is_dear: Callable[[ENode], bool]) -> Callable[[Snapshot, ENode], float]:
    """The default cost, but a millisecond more for some e-nodes, and a second for contractions in floats."""
    return lambda snapshot, node: default_cost(snapshot, node) + 1e3 * is_dear(node) + 1e6 * (node.op == "Gemm")


def zero_point_of(node: ENode) -> int:
    return node.args[2].args[1] if node.op == "QGemm" and node.args[2].name == "PerTensor" else 0


WITHOUT_CONV = made_dear(lambda node: node.op == "QGemm" and node.args[0].name == "Conv")
WITHOUT_LINEAR = made_dear(lambda node: node.op == "QGemm" and node.args[0].name == "Linear")
WITHOUT_ZERO_POINT = made_dear(lambda node: zero_point_of(node) != 0)


def forced(gm: GraphModule, inputs: Sequence[Tensor], cost: Callable[[Snapshot, ENode], float]) -> GraphModule:
    fast = qegraph.optimize(gm, cost=cost)
    b.agrees(gm, fast, inputs)
    return fast


def zero_points(fast: GraphModule) -> list[object]:
    return [node.args[2] for node in fast.graph.nodes if "pointwise" in str(node.target)]


@pytest.mark.parametrize("name", ["gelu", "tanh", "leaky_relu"])
def test_pointwise_conv_takes_what_linear_takes(name: str) -> None:
    function: Callable[[Tensor], Tensor] = {
        "gelu": F.gelu,
        "tanh": torch.tanh,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    }[name]
    x = b.image()
    fast = b.checked(net(lambda m, x: q(function(m(fq(x))), OUT), [Conv(kernel=1)], [x]), [x])
    assert b.post_ops(fast) == [name] and b.borders(fast) == (1, 0)
    assert b.kinds(fast) == ["qlinear_pointwise.default"]
    assert qegraph.explain(fast).contractions[0].kind == "conv"


@pytest.mark.parametrize("has_vnni", [True, False])
def test_pointwise_conv_compiled_is_a_linear_where_that_is_no_generic_matmul(
    has_vnni: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qegraph.pricing.adds_in_32_bits", lambda: has_vnni)
    x = b.image()
    gm = net(lambda m, x: m(fq(x)), [Conv(kernel=1)], [x])
    fast = qegraph.optimize(gm, target="compiled", require="int8", kernels="onednn")
    assert b.kinds(fast) == ["qlinear_pointwise.default" if has_vnni else "qconv_pointwise.default"]
    b.agrees(gm, fast, [x])


@pytest.mark.parametrize("quantized", [True, False], ids=["codes", "float"])
@pytest.mark.parametrize("residual", ["none", "input", "codes", "conv"])
def test_pointwise_conv_either_way(residual: str, quantized: bool) -> None:
    x, y = b.image(), b.image()

    def function(m: Conv, n: Conv, x: Tensor, y: Tensor) -> Tensor:
        total = m(fq(x))
        if residual != "none":
            total = total + {"input": y, "codes": fq(y, OUT), "conv": n(fq(x))}[residual]
        return q(F.relu(total), OUT) if quantized else F.relu(total)

    gm = net(function, [Conv(kernel=1), Conv()], [x, y])
    as_linear, as_conv = forced(gm, [x, y], WITHOUT_CONV), forced(gm, [x, y], WITHOUT_LINEAR)
    assert any("qlinear" in kind for kind in b.kinds(as_linear))
    assert not any("qlinear" in kind for kind in b.kinds(as_conv))
    assert {each.kind for each in qegraph.explain(as_linear).contractions} == {"conv"}


@pytest.mark.parametrize("options", [{"stride": 2}, {"groups": 2}], ids=str)
def test_pointwise_conv_that_is_no_linear(options: dict[str, int]) -> None:
    x, weight = b.image(), b.Weight(8, 8 // options.get("groups", 1), 1, 1)
    gm = net(
        lambda w, x: q(F.conv2d(fq(x), w(), None, options.get("stride", 1), 0, 1, options.get("groups", 1)), OUT),
        [weight],
        [x],
    )
    assert b.kinds(forced(gm, [x], WITHOUT_CONV)) == ["qconv_pointwise.default"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_zero_point_goes_into_the_bias(kernel: int, bias: bool) -> None:
    """A 3x3 convolution is padded with the zero point first."""
    x = b.image(channels=16)
    parts = [b.Weight(8, 16, kernel, kernel), nn.ParameterList([torch.randn(8)] if bias else [])]

    def function(w: b.Weight, biases: nn.ParameterList, x: Tensor) -> Tensor:
        first = biases[0] if bias else None
        return q(F.relu(F.conv2d(fq(x), w(), first, padding=kernel // 2)), QP(0.2, 3))

    gm = net(function, parts, [x])
    without = forced(gm, [x], made_dear(lambda node: zero_point_of(node) != 0 or "Linear" in str(node.args[:1])))
    assert zero_points(without) == [0] and b.has(without, "constant_pad") == (kernel == 3)
    assert zero_points(b.checked(gm, [x])) != [0] or kernel == 1


def test_zero_point_stays_where_the_offset_is_too_large_for_float32() -> None:
    """Steps of the output of 1e-6: the offset is millions of them."""
    x = b.image()
    gm = net(lambda m, x: q(m(fq(x)), QP(1e-6, 3)), [Conv()], [x])
    assert zero_points(forced(gm, [x], WITHOUT_ZERO_POINT)) == [IN.zp]


def test_zero_point_stays_where_the_bias_is_an_input() -> None:
    x, bias = b.image(), torch.randn(8)
    gm = net(lambda w, x, bias: q(F.conv2d(fq(x), w(), bias), QP(0.2, 3)), [b.Weight(8, 8, 3, 3)], [x, bias])
    assert zero_points(forced(gm, [x, bias], WITHOUT_ZERO_POINT)) == [IN.zp]


@pytest.mark.parametrize("case", ["two pointwise", "wide then pointwise", "rank 3", "read again", "conv of linear"])
def test_residual_of_codes_compiled(case: str) -> None:
    """Inductor must not take a residual of codes for a view, nor the copy of one for superfluous."""
    x = torch.randn(2, 5, 24) if case == "rank 3" else b.image(batch=1, channels=32)
    small, wide = (lambda: Conv(2, 32, 32, 1)), (lambda: Conv(2, 32, 32, 3))
    parts = [b.Linear(24, 24), b.Linear(24, 24)] if case == "rank 3" else [small(), small()]
    if case in ("wide then pointwise", "conv of linear"):
        parts = [wide(), small()] if case == "wide then pointwise" else [small(), wide()]

    def function(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        first = fq(F.relu(m(fq(x))), OUT)
        total = q(n(first) + first, QP(0.05, 77))
        return total, first * 2 if case == "read again" else total

    fast = b.checked(net(function, parts, [x]), [x])
    assert any("binary" in kind for kind in b.kinds(fast))
    torch.compiler.reset()
    with torch.no_grad():
        for found, wanted in zip(torch.compile(fast)(x), fast(x), strict=True):
            assert torch.equal(found, wanted)
