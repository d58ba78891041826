"""Which graphs become which int8 kernels: every spelling, position and operand order, with the numbers compared."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import (
    IN,
    OUT,
    QP,
    RETURNS,
    Conv,
    Fn,
    Linear,
    Weight,
    borders,
    build,
    checked,
    decomposed,
    fq,
    has,
    net,
    out,
    post_ops,
    q,
    rows,
)
from torch import Tensor, nn

import qegraph

UNARY: dict[str, tuple[Fn, str]] = {
    "relu": (F.relu, "relu"),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 2.0), "hardtanh"),
    "gelu": (F.gelu, "gelu"),
    "gelu-tanh": (lambda x: F.gelu(x, approximate="tanh"), "gelu"),
    "silu": (F.silu, "swish"),
    "hardswish": (F.hardswish, "hardswish"),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), "leaky_relu"),
    "tanh": (torch.tanh, "tanh"),
}
CONV_UNARY = ("relu", "hardtanh", "silu", "hardswish")
# -- unary post-ops


@pytest.mark.parametrize("rank", [2, 3])
@RETURNS
@pytest.mark.parametrize("name", UNARY)
def test_linear_unary(name: str, quantized: bool, rank: int) -> None:
    function, post_op = UNARY[name]
    x = rows(rank)
    fast = checked(net(lambda m, x: out(function(m(fq(x))), quantized), [Linear()], [x]), [x])
    assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)


@RETURNS
@pytest.mark.parametrize("name", CONV_UNARY)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_conv_unary(dims: int, name: str, quantized: bool) -> None:
    """conv1d kernels take in relu only, conv3d kernels nothing; both are int8 all the same."""
    function, post_op = UNARY[name]
    x = b.image(dims)
    fast = checked(net(lambda m, x: out(function(m(fq(x))), quantized), [Conv(dims)], [x]), [x])
    if dims == 2 or (dims, name) == (1, "relu"):
        assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)
    else:
        assert len(post_ops(fast)) == 1


@pytest.mark.parametrize("name", ["gelu", "tanh", "leaky_relu"])
def test_conv_keeps_other_unaries_outside(name: str) -> None:
    x = b.image()
    fast = checked(net(lambda m, x: q(UNARY[name][0](m(fq(x))), OUT), [Conv()], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (2, 0)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_conv_alone(dims: int) -> None:
    x = b.image(dims)
    fast = checked(net(lambda m, n, x: n(fq(m(fq(x)), OUT)), [Conv(dims), Conv(dims)], [x]), [x])
    assert post_ops(fast) == ["", ""] and borders(fast) == (1, 0)


CONV_OPTIONS = [{"stride": 2}, {"dilation": 2}, {"groups": 4}, {"groups": 8, "padding": 1}]


@pytest.mark.parametrize("options", CONV_OPTIONS, ids=str)
def test_conv_options(options: dict[str, int]) -> None:
    x, groups = b.image(), options.get("groups", 1)
    weight, bias = Weight(8, 8 // groups, 3, 3), nn.Parameter(torch.randn(8))
    holder = nn.ParameterList([bias])
    fast = checked(
        net(lambda w, p, x: q(F.relu(F.conv2d(fq(x), w(), p[0], **options)), b.FULL_OUT), [weight, holder], [x]), [x]
    )
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", UNARY)
def test_decomposed_unary(name: str) -> None:
    function, post_op = UNARY[name]
    x = rows(3)
    fast = checked(decomposed(lambda m, x: q(function(m(fq(x))), OUT), [Linear()], [x]), [x])
    assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)


# -- spellings

SPELLINGS: dict[str, tuple[Fn, str]] = {
    "clamp(min=0)": (lambda x: x.clamp(min=0), "relu"),
    "clamp_min(0)": (lambda x: x.clamp_min(0), "relu"),
    "clamp(-1, 1)": (lambda x: x.clamp(-1, 1), "hardtanh"),
    "F.hardtanh": (F.hardtanh, "hardtanh"),
    "relu6": (F.relu6, "hardtanh"),
    "nn.ReLU6": (nn.ReLU6(), "hardtanh"),
    "relu_": (lambda x: x.relu_(), "relu"),
    "min, max": (lambda x: x.clamp_min(0.0).clamp_max(6.0), "hardtanh"),
    "max, min": (lambda x: x.clamp_max(6.0).clamp_min(0.0), "hardtanh"),
    "relu, max": (lambda x: F.relu(x).clamp_max(6.0), "hardtanh"),
    "clamp, relu": (lambda x: F.relu(x.clamp(-1.0, 3.0)), "hardtanh"),
    "gelu by erf": (lambda x: x * 0.5 * (1.0 + torch.erf(x * 0.7071067811865476)), "gelu"),
    "gelu by erf, half last": (lambda x: x * (torch.erf(x * 0.7071067811865476) + 1.0) * 0.5, "gelu"),
    "gelu by erf(x / sqrt 2)": (lambda x: 0.5 * x * (1.0 + torch.erf(x / 1.4142135623730951)), "gelu"),
    "gelu by tanh": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
        "gelu",
    ),
    "gelu by tanh, pow": (
        lambda x: 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0)))),
        "gelu",
    ),
    "x * sigmoid(x)": (lambda x: x * torch.sigmoid(x), "swish"),
    "sigmoid(x) * x": (lambda x: torch.sigmoid(x) * x, "swish"),
    "x / (1 + exp(-x))": (lambda x: x / (1 + torch.exp(-x)), "swish"),
    "x * clamp(x + 3, 0, 6) / 6": (lambda x: x * torch.clamp(x + 3, 0, 6) / 6, "hardswish"),
    "x * relu6(x + 3) / 6": (lambda x: x * F.relu6(x + 3) / 6, "hardswish"),
    "x * (relu6(x + 3) / 6)": (lambda x: x * (F.relu6(x + 3) / 6), "hardswish"),
    "x * hardsigmoid(x)": (lambda x: x * F.hardsigmoid(x), "hardswish"),
    "view, relu": (lambda x: F.relu(x.reshape(2, 5, 4, 4)), "relu"),
    "relu, view": (lambda x: F.relu(x).reshape(2, 80), "relu"),
    "transpose, relu": (lambda x: F.relu(x.transpose(1, 2)), "relu"),
    "dropout": (lambda x: F.relu(F.dropout(x, 0.5, training=False)), "relu"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spelling(name: str) -> None:
    function, post_op = SPELLINGS[name]
    x = rows(3)
    fast = checked(net(lambda m, x: q(function(m(fq(x))), OUT), [Linear()], [x]), [x])
    assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)


NEAR_MISSES: dict[str, Fn] = {
    "x * sigmoid(2 x)": lambda x: x * torch.sigmoid(x * 2),
    "x / (2 + exp(-x))": lambda x: x / (2 + torch.exp(-x)),
    "clamp(x + 3, 0, 5)": lambda x: x * torch.clamp(x + 3, 0, 5) / 6,
    "gelu with a wrong root": lambda x: x * 0.5 * (1.0 + torch.erf(x * 0.6)),
    "crossed clamp": lambda x: x.clamp_min(3.0).clamp_max(1.0),
    "crossed clamp, other order": lambda x: x.clamp_max(1.0).clamp_min(3.0),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_not_taken_for_the_spelling(name: str) -> None:
    x = rows(2)
    fast = checked(net(lambda m, x: NEAR_MISSES[name](m(fq(x))), [Linear()], [x]), [x])
    assert len(post_ops(fast)) == 1 and not {"swish", "gelu", "hardswish"} & set(post_ops(fast))


# -- sharing


def test_per_tensor_weight() -> None:
    x = rows(2)
    fast = checked(net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear(scale=0.003)], [x]), [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


def test_per_tensor_weight_of_conv() -> None:
    x = b.image()
    fast = checked(net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Conv(scale=0.003)], [x]), [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


@pytest.mark.parametrize("part", [Linear, Conv])
def test_tied_weight(part: Callable[..., nn.Module]) -> None:
    """One dequantized weight read by two products."""
    x = rows(2) if part is Linear else b.image()

    def function(m: Any, x: Tensor) -> Tensor:
        w, first, second = m.weight(), fq(x), fq(x * 0.5)
        if isinstance(m, Linear):
            return q(F.linear(first, w) + F.linear(second, w, m.bias), OUT)
        return q(F.conv2d(first, w) + F.conv2d(second, w, m.bias), OUT)

    fast = checked(net(function, [part()], [x]), [x])
    assert sorted(post_ops(fast)) == ["", "add"]
    assert borders(fast) == (2 if part is Linear else 3, 0)  # no conv kernel adds floats and stores codes
    assert sum(node.op == "call_module" and "packed" in str(node.target) for node in fast.graph.nodes) == 1


def test_shared_activation() -> None:
    x = rows(3)
    three = [Linear(), Linear(), Linear()]
    gm = net(lambda k, m, n, x: [q(each(h), b.FULL_OUT) for h in [fq(x)] for each in (k, m, n)], three, [x])
    fast = checked(gm, [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)  # run as one


@pytest.mark.parametrize("part", [Linear, Conv])
def test_two_consumers_with_their_own_parameters(part: Callable[..., nn.Module]) -> None:
    x = rows(2) if part is Linear else b.image()

    def function(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(m(fq(x)))
        return q(h, OUT), q(h, QP(0.02, 3))

    fast = checked(net(function, [part()], [x]), [x])
    assert 1 <= len(post_ops(fast)) <= 2 and set(post_ops(fast)) == {"relu"}


def test_two_equal_consumers() -> None:
    """Even two identical quantizes are not shared by the reference."""
    x = rows(2)

    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(k(fq(x)))
        return q(m(fq(h, OUT)), b.FULL_OUT), q(n(fq(h, OUT)), b.FULL_OUT)

    fast = checked(net(function, [Linear(), Linear(16), Linear(16)], [x]), [x])
    assert post_ops(fast) == ["relu", ""] and borders(fast) == (1, 0)  # m and n run as one


def test_codes_and_float_of_one_product() -> None:
    x = rows(2)

    def function(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m(fq(x))
        return h, q(F.relu(h), OUT)

    assert 1 <= len(post_ops(checked(net(function, [Linear()], [x]), [x]))) <= 2


# -- what stands between quantized operators

BETWEEN: dict[str, Fn] = {
    "max_pool": lambda x: fq(F.max_pool2d(x, 2), OUT),
    "max_pool, padded": lambda x: fq(F.max_pool2d(x, 3, 2, 1), OUT),
    "flip back": lambda x: fq(x.transpose(2, 3), OUT),
    "permute": lambda x: fq(x.permute(0, 1, 3, 2), OUT),
    "view": lambda x: fq(x.view(2, 8, 49, 1), OUT),
    "cat": lambda x: fq(torch.cat([x, x], 2), OUT),
    "cat of three": lambda x: fq(torch.cat([x, x.transpose(2, 3), x], 3), OUT),
    "requantized the same": lambda x: fq(fq(x, OUT), OUT),
    "relu": lambda x: fq(F.relu(x), OUT),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_between_convolutions(name: str) -> None:
    x = b.image()
    gm = net(lambda m, n, x: n(BETWEEN[name](fq(m(fq(x)), OUT))), [Conv(), Conv()], [x])
    fast = checked(gm, [x])
    assert len(post_ops(fast)) == 2 and borders(fast) == (1, 0), fast.code


def test_cat_of_two_products() -> None:
    x = b.image()
    gm = net(
        lambda k, m, n, x: n(fq(torch.cat([fq(k(fq(x)), OUT), fq(F.relu(m(fq(x))), OUT)], 1), OUT)),
        [Conv(), Conv(), Conv(i=16)],
        [x],
    )
    fast = checked(gm, [x])
    assert sorted(post_ops(fast)) == ["", "", "relu"] and borders(fast) == (1, 0) and has(fast, "cat") == 1


def test_flatten_then_linear() -> None:
    x = b.image()
    gm = net(lambda m, n, x: n(fq(torch.flatten(fq(F.relu(m(fq(x))), OUT), 1), OUT)), [Conv(), Linear(8 * 49, 10)], [x])
    fast = checked(gm, [x])
    assert post_ops(fast) == ["relu", ""] and borders(fast) == (1, 0)


def test_attention_heads() -> None:
    """linear -> view -> transpose -> q: the quantize moves to the product."""
    x = rows(3)
    gm = net(lambda m, x: q(m(fq(x)).view(2, 5, 4, 4).transpose(1, 2), OUT), [Linear()], [x])
    fast = checked(gm, [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)


@pytest.mark.parametrize("other", [QP(0.031, 112), QP(0.0311, 113), QP(0.031, 113, 0, 127)], ids=str)
def test_requantize_with_other_parameters_stays(other: QP) -> None:
    x = rows(2)
    assert borders(checked(net(lambda x: q(fq(x), other), [], [x]), [x]))[0] >= 1


def test_quantize_of_dequantize_is_the_codes() -> None:
    codes = q(rows(2))
    fast = checked(net(lambda x: q(b.dq(x), IN), [], [codes]), [codes])
    assert borders(fast) == (0, 0)


# -- shapes


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(24, 16), Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = fq(F.gelu(self.first(fq(x))), OUT)
        return self.second(h) + x


@pytest.mark.parametrize("decompose", [False, True], ids=["exported", "decomposed"])
@pytest.mark.parametrize("rank", [2, 3])
def test_dynamic_batch(rank: int, decompose: bool) -> None:
    x = rows(rank).repeat(2, *[1] * (rank - 1))
    dynamic = {"x": {0: torch.export.Dim("batch", min=2, max=512)}}
    gm = build(_Mlp(), [x], dynamic, decompose)
    fast = checked(gm, [x])
    assert post_ops(fast) == ["gelu", "add"] and borders(fast) == (1, 0)
    for batch in (2, 7):
        b.agrees(gm, fast, [torch.randn(batch, *x.shape[1:])])


def test_dynamic_batch_of_conv() -> None:
    x = b.image(batch=4)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = Conv(), Conv(), Linear(8 * 9, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = fq(F.relu(self.first(fq(x))), OUT)
            h = fq(F.relu(self.second(h) + h), OUT)
            return self.head(fq(F.max_pool2d(h, 2), OUT).flatten(1))

    gm = build(Block(), [x], shapes={"x": {0: torch.export.Dim("batch", min=2, max=512)}})
    fast = checked(gm, [x])
    assert post_ops(fast) == ["relu", "add+relu", ""] and borders(fast) == (1, 0)
    b.agrees(gm, fast, [b.image(batch=7)])


@pytest.mark.parametrize("shape", [(0, 24), (1, 24), (24,)], ids=str)
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    fast = checked(net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear()], [x]), [x])
    assert len(qegraph.explain(fast).contractions) == 1


def test_require_int8() -> None:
    x = rows(2)
    qegraph.optimize(net(lambda m, x: m(fq(x)), [Linear()], [x]), require="int8")
    with pytest.raises(qegraph.RequirementError, match="zero"):
        qegraph.optimize(net(lambda m, x: m(fq(x)), [Linear(zp=3)], [x]), require="int8")
