"""Which graphs become which int8 kernels: every spelling, position and operand order, with the numbers compared."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, OUT, QP, Conv, Linear, Weight, borders, build, checked, decomposed, fq, has, net, post_ops, q
from torch import Tensor, nn

import qegraph

Make = Callable[..., torch.fx.GraphModule]
Fn = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def rows(rank: int, features: int = 24) -> Tensor:
    return torch.randn(*(2, 5, 3)[: rank - 1], features) * 2


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
BOTH = pytest.mark.parametrize("quantized", [True, False], ids=["codes", "float"])
MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])


def out(x: Tensor, quantized: bool) -> Tensor:
    return q(x, OUT) if quantized else x


# -- unary post-ops


@pytest.mark.parametrize("rank", [2, 3])
@BOTH
@pytest.mark.parametrize("name", UNARY)
def test_linear_unary(name: str, quantized: bool, rank: int) -> None:
    function, post_op = UNARY[name]
    x = rows(rank)
    fast = checked(net(lambda m, x: out(function(m(fq(x))), quantized), [Linear()], [x]), [x])
    assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)


@BOTH
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


# -- residuals

ADDS: dict[str, tuple[Fn, str]] = {
    "m + y": (lambda a, y: a + y, "add"),
    "y + m": (lambda a, y: y + a, "add"),
    "relu(m + y)": (lambda a, y: F.relu(a + y), "add+relu"),
    "relu(y + m)": (lambda a, y: F.relu(y + a), "add+relu"),
}


@BOTH
@pytest.mark.parametrize("name", ADDS)
@pytest.mark.parametrize("rank", [2, 3])
def test_linear_float_residual(rank: int, name: str, quantized: bool) -> None:
    function, fused = ADDS[name]
    x, y = rows(rank), rows(rank, 16)
    fast = checked(net(lambda m, x, y: out(function(m(fq(x)), y), quantized), [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", ADDS)
@pytest.mark.parametrize("part", [Linear, Conv])
def test_residual_of_codes(part: Callable[..., nn.Module], name: str) -> None:
    """Both branches are int8 kernels; the residual has the output's dtype and its own scale."""
    function, fused = ADDS[name]
    x = rows(2) if part is Linear else b.image()
    other = QP(0.05, 101)
    gm = net(lambda m, n, x: q(function(m(fq(x)), fq(n(fq(x)), other)), OUT), [part(), part()], [x])
    fast = checked(gm, [x])
    assert sorted(post_ops(fast)) == sorted(["", fused]) and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", ADDS)
def test_conv_float_residual(name: str) -> None:
    function, fused = ADDS[name]
    x, y = b.image(), b.image()
    fast = checked(net(lambda m, x, y: function(m(fq(x)), y), [Conv()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)


@pytest.mark.parametrize("part", [Linear, Conv])
def test_residual_of_other_codes(part: Callable[..., nn.Module]) -> None:
    """int8 residual, uint8 output: the kernel can't add the codes, whatever it does must be right."""
    x, y = (rows(2), rows(2, 16)) if part is Linear else (b.image(), b.image())
    gm = net(lambda m, x, y: q(F.relu(m(fq(x)) + fq(y, b.IN_S8)), OUT), [part()], [x, y])
    assert len(post_ops(checked(gm, [x, y]))) == 1


BROADCASTS = [(16,), (1, 16), (5, 16), (1, 5, 16), (2, 1, 16), (1, 5, 1), (2, 5, 1), (1, 1, 1), (1, 1, 16)]


@pytest.mark.parametrize("shape", BROADCASTS, ids=str)
@BOTH
def test_broadcast_residual(shape: tuple[int, ...], quantized: bool) -> None:
    """At rank 3 the kernel's own broadcast is silently wrong for half of these."""
    x, y = rows(3), torch.randn(shape)
    fast = checked(net(lambda m, x, y: out(m(fq(x)) + y, quantized), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1 and borders(fast) == (1, 0)


def test_product_broadcasts_to_the_residual() -> None:
    x, y = torch.randn(1, 24), torch.randn(5, 16)
    fast = checked(net(lambda m, x, y: q(m(fq(x)) + y, OUT), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


def test_residual_is_transposed() -> None:
    x, y = torch.randn(5, 24), torch.randn(16, 5)
    fast = checked(net(lambda m, x, y: m(fq(x)) + y.t(), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


def test_residual_is_a_view_of_an_input() -> None:
    x, y = torch.randn(2, 24), b.image()
    gm = net(lambda m, x, y: m(fq(y)) + y.view(2, 8, 7, 7) + x.sum(), [Conv()], [x, y])
    assert len(post_ops(checked(gm, [x, y]))) == 1


STRIDED: dict[str, tuple[tuple[int, ...], Fn]] = {
    "transposed 0, 1": ((5, 2, 16), lambda y: y.transpose(0, 1)),
    "transposed 1, 2": ((2, 16, 5), lambda y: y.transpose(1, 2)),
    "rows skipped": ((2, 9, 16), lambda y: y[:, :5]),
    "columns skipped": ((2, 5, 32), lambda y: y[..., ::2]),
    "expanded": ((2, 1, 16), lambda y: y.expand(2, 5, 16)),
}


@BOTH
@pytest.mark.parametrize("name", STRIDED)
def test_strided_residual(name: str, quantized: bool) -> None:
    """The kernel reads a residual of rank 3 as if it were contiguous, past its end if it is expanded."""
    shape, view = STRIDED[name]
    x, y = rows(3), torch.randn(shape)
    fast = checked(net(lambda m, x, y: out(m(fq(x)) + view(y), quantized), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


@pytest.mark.parametrize("name", ["transposed 0, 1", "rows skipped"])
def test_residual_input_is_strided_in_the_call_only(name: str) -> None:
    """Strides are no part of an exported signature: a contiguous example promises nothing about later calls."""
    shape, view = STRIDED[name]
    x, y = rows(3), torch.randn(2, 5, 16)
    gm = net(lambda m, x, y: m(fq(x)) + y, [Linear()], [x, y])
    b.agrees(gm, checked(gm, [x, y]), [x, view(torch.randn(shape))])


def test_inputs_of_convolution_are_strided_in_the_call_only() -> None:
    x, y = b.image(), b.image()
    gm = net(lambda m, x, y: m(fq(x)) + y, [Conv()], [x, y])
    fast = checked(gm, [x, y])
    last = torch.channels_last
    b.agrees(gm, fast, [b.image().contiguous(memory_format=last), b.image().contiguous(memory_format=last)])
    b.agrees(gm, fast, [b.image().transpose(2, 3), b.image().transpose(2, 3)])


def _summed(m: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    return q(m(fq(x)) + b.dq(residual, OUT), OUT)


def _returned(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), r


def _view_returned(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), r.view(-1)


def _read_later(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), b.dq(r, OUT).sum()


def _own_activation(m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
    r = q(m(fq(x)), OUT)
    return q(n(b.dq(r, OUT)) + b.dq(r, OUT), OUT)


def _two_sums(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), _summed(n, x * 0.5, r)


@pytest.mark.parametrize("function", [_returned, _view_returned, _read_later, _own_activation, _two_sums])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_sum_never_overwrites_what_is_read_again(part: Callable[..., nn.Module], function: Callable[..., Any]) -> None:
    x = rows(2, 16) if part is Linear else b.image()
    parts = [Linear(16, 16), Linear(16, 16)] if part is Linear else [Conv(), Conv()]
    fast = checked(net(function, parts, [x]), [x])
    assert sorted(post_ops(fast)) in (["", "add"], ["", "add", "add"], [""])  # or both as one, where x is read twice


@pytest.mark.parametrize("part", [Linear, Conv])
def test_sum_of_codes_that_are_an_input(part: Callable[..., nn.Module]) -> None:
    x, y = (rows(2), rows(2, 16)) if part is Linear else (b.image(), b.image())
    codes = q(y, OUT)
    fast = checked(net(_summed, [part()], [x, codes]), [x, codes])
    assert post_ops(fast) == ["add"] and borders(fast) == (1, 0)


def test_reduction_that_overflows_the_accumulator_stays_float() -> None:
    x = torch.randn(2, 70_000)
    b.stays_float(checked(net(lambda m, x: m(fq(x)), [Linear(70_000, 2)], [x]), [x]))


def test_chain_of_residuals() -> None:
    """A float stream to which every block adds: read twice each time, so nothing may be overwritten too early."""
    x = rows(2, 16)

    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
        h = k(fq(x)) + x
        h = h + m(fq(h))
        return h + n(fq(h))

    fast = checked(net(function, [Linear(16, 16) for _ in range(3)], [x]), [x])
    assert post_ops(fast) == ["add"] * 3 and borders(fast) == (3, 0)


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


# -- decomposed graphs


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_decomposed_linear(rank: int, bias: bool) -> None:
    x = rows(rank)
    fast = checked(decomposed(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear(bias=bias)], [x]), [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rank", [3, 4])
def test_decomposed_linear_not_contiguous(rank: int, bias: bool) -> None:
    x = rows(rank).transpose(0, rank - 2).contiguous()
    gm = decomposed(lambda m, x: q(F.relu(m(fq(x).transpose(0, rank - 2))), OUT), [Linear(bias=bias)], [x])
    fast = checked(gm, [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


def test_decomposed_shared_expand() -> None:
    """q, k and v of one non-contiguous activation."""
    x = rows(3).transpose(0, 1).contiguous()

    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor) -> list[Tensor]:
        h = fq(x).transpose(0, 1)
        return [q(each(h), b.FULL_OUT) for each in (k, m, n)]

    fast = checked(decomposed(function, [Linear() for _ in "kmn"], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_decomposed_conv(dims: int) -> None:
    x = b.image(dims)
    fast = checked(decomposed(lambda m, x: q(m(fq(x)), OUT), [Conv(dims)], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", UNARY)
def test_decomposed_unary(name: str) -> None:
    function, post_op = UNARY[name]
    x = rows(3)
    fast = checked(decomposed(lambda m, x: q(function(m(fq(x))), OUT), [Linear()], [x]), [x])
    assert post_ops(fast) == [post_op] and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", ["m + y", "relu(y + m)"])
def test_decomposed_residual(name: str) -> None:
    function, fused = ADDS[name]
    x, y = rows(3), rows(3, 16)
    fast = checked(decomposed(lambda m, x, y: q(function(m(fq(x)), y), OUT), [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)


def test_addmm_with_factors_is_not_a_plain_linear() -> None:
    x, y = rows(2), rows(2, 16)[:1]
    gm = net(lambda w, x, y: torch.addmm(y, fq(x), w().t(), beta=2, alpha=3), [Weight(16, 24)], [x, y])
    checked(gm, [x, y])


def test_matmul_with_the_weight_stored_the_other_way() -> None:
    """Codes (K, N) with scales along N."""
    x = rows(2)
    checked(net(lambda w, x: torch.matmul(fq(x), w()), [Weight(24, 16, axis=1)], [x]), [x])


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
