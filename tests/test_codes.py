"""Laws of the codes: duplicates, clamps, factors, sums, and the forms of contractions that meet the kernels."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import (
    IN,
    IN_S8,
    OUT,
    OUT_S8,
    QP,
    Conv,
    Linear,
    Weight,
    borders,
    checked,
    decomposed,
    dq,
    fq,
    has,
    net,
    post_ops,
    q,
)
from torch import Tensor, nn

import qegraph
from qegraph import borders as eager

Fn = Callable[[Tensor], Tensor]
BOTH = pytest.mark.parametrize("p", [OUT, OUT_S8], ids=["u8", "s8"])


# -- eager borders


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(torch.uint8, 0, 255), (torch.uint8, 3, 127), (torch.int8, -128, 127)]
)
@pytest.mark.parametrize("zero_point", [0, 114, -5])
def test_borders_are_the_operators_bit_for_bit(dtype: torch.dtype, low: int, high: int, zero_point: int) -> None:
    """At ties, beyond the range, at what is no number, in any layout and at any length of a register's rest."""
    to, operators = (0.1, zero_point, low, high, dtype), torch.ops.quantized_decomposed
    ties, odd = (torch.arange(-600, 600) + 0.5) * 0.1, torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e30, -1e30])
    x = torch.cat([torch.randn(33003) * 10, ties, odd])  # enough for the way of large ones, too
    for each in (x, x[-1300:], x[-7:], x[::2], x[:33000].view(2, 3, 55, 100).to(memory_format=torch.channels_last)):
        codes = eager.quantize_per_tensor(each, *to)
        assert_same(codes, operators.quantize_per_tensor(each, *to))
        assert_same(eager.dequantize_per_tensor(codes, *to), operators.dequantize_per_tensor(codes, *to))


def assert_same(one: Tensor, other: Tensor) -> None:
    assert one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)


# -- duplicates


def test_equal_quantizes_are_one() -> None:
    x = torch.randn(5, 24)
    fast = checked(net(lambda m, n, x: m(fq(x)) + n(fq(x)), [Linear(), Linear()], [x]), [x])
    assert borders(fast) == (1, 0) and post_ops(fast)


@pytest.mark.parametrize("part", [Linear, Conv])
def test_codes_and_floats_of_one_product(part: Callable[..., nn.Module]) -> None:
    def branches(m: nn.Module, n: nn.Module, x: Tensor) -> Any:
        y = m(fq(x))
        return n(fq(y, OUT)), y

    x = torch.randn(5, 24) if part is Linear else b.image()
    parts = [Linear(24, 24), Linear()] if part is Linear else [Conv(), Conv()]
    fast = checked(net(branches, parts, [x]), [x])
    assert not has(fast, "aten.linear") and not has(fast, "aten.conv") and borders(fast)[1] == 0


@pytest.mark.parametrize("other", [OUT_S8, QP(0.02, 3)], ids=str)
def test_two_different_quantizes_of_one_product(other: QP) -> None:
    """Two kernels that store codes, or one that stores floats and two quantizes: whichever is cheaper, all int8."""
    x = torch.randn(5, 24)
    gm = net(
        lambda m, n, k, x: (lambda y: n(fq(y, OUT)) + k(fq(y, other)))(m(fq(x))),
        [Linear(24, 24), Linear(), Linear()],
        [x],
    )
    fast = checked(gm, [x])
    inexact = other.hi > b.highest_exact_code() or (other == OUT_S8 and not b.READS_INT8)
    assert has(fast, "aten.linear") == borders(fast)[1] == inexact


@pytest.mark.parametrize("other", [QP(0.031, 112), QP(0.02, 3), OUT_S8], ids=str)
def test_other_parameters_are_requantized(other: QP) -> None:
    x = torch.randn(5, 24)
    fast = checked(net(lambda m, x: m(fq(fq(x), other)), [Linear()], [x]), [x])
    inexact = other.hi > b.highest_exact_code() or (other == OUT_S8 and not b.READS_INT8)
    assert borders(fast) == (2, 1 + inexact) and len(post_ops(fast)) == 1 - inexact


# -- clamps

CLAMPS: dict[str, Fn] = {
    "relu": F.relu,
    "relu twice": lambda x: F.relu(F.relu(x)),
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "clamp": lambda x: x.clamp(-0.31, 0.77),
    "clamp at a tie": lambda x: x.clamp(-0.037 * 2.5, 0.037 * 4.5),
    "clamp from below": lambda x: x.clamp_min(-0.2),
    "clamp from above": lambda x: x.clamp_max(0.2),
    "clamp to nothing": lambda x: x.clamp(100.0, 200.0),
}


@BOTH
@pytest.mark.parametrize("name", CLAMPS)
def test_clamp_of_codes(name: str, p: QP) -> None:
    x = torch.randn(50, 40)
    fast = checked(net(lambda x: q(CLAMPS[name](fq(x, p)).flip(0), p), [], [x]), [x])
    assert borders(fast) == (1, 0) and has(fast, "clamp") == 1


@pytest.mark.parametrize("name", CLAMPS)
def test_clamp_of_codes_of_other_parameters_stays(name: str) -> None:
    x = torch.randn(50, 40)
    assert borders(checked(net(lambda x: q(CLAMPS[name](fq(x)), OUT), [], [x]), [x]))[0] == 2


@pytest.mark.parametrize("name", ["relu", "clamp"])
def test_clamp_after_a_kernel_that_takes_none(name: str) -> None:
    """conv3d has no post-ops, and linear only relu beside a residual: the codes are clamped."""
    x = b.image(3)
    fast = checked(net(lambda m, x: q(CLAMPS[name](m(fq(x))), OUT), [Conv(3)], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)
    x, y = torch.randn(50, 24), torch.randn(50, 16)
    fast = checked(net(lambda m, x, y: q(CLAMPS[name](m(fq(x)) + y), OUT), [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == ["add+relu" if name == "relu" else "add"] and borders(fast) == (1, 0)


def test_relu_between_dequantize_and_linear() -> None:
    """relu of a dequantized value is a dequantized value: the linear reads codes."""
    x = torch.randn(5, 24)
    fast = checked(net(lambda m, x: m(F.relu(fq(x))), [Linear()], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)
    below = QP(0.02, -3)
    fast = checked(net(lambda m, x: m(F.relu(fq(x, below))), [Linear()], [x]), [x])
    assert post_ops(fast) == []


@pytest.mark.parametrize("p", [QP(0.031, 5, 20, 90), QP(0.031, 100, 0, 90), QP(0.031, 50, 0, 100)], ids=str)
@pytest.mark.parametrize("name", CLAMPS)
def test_clamp_with_a_narrow_range(name: str, p: QP) -> None:
    x = torch.randn(50, 40)
    checked(net(lambda x: q(CLAMPS[name](fq(x, p)), p), [], [x]), [x])
    checked(net(lambda m, x: q(CLAMPS[name](m(fq(x))), p), [Linear(40, 16)], [x]), [x])


@pytest.mark.parametrize(
    "p", [QP(0.05, 10, 0, 100), QP(0.05, 60, 20, 255), QP(0.05, -3, -100, 100, torch.int8)], ids=str
)
@pytest.mark.parametrize("f", [torch.clone, F.relu, F.relu6], ids=["nothing", "relu", "relu6"])
def test_kernel_clamps_to_a_narrow_range(f: Fn, p: QP) -> None:
    """conv -> f -> quantize to fewer codes: one clamp, the kernel's, does both."""
    x = b.image()
    fast = checked(net(lambda m, x: q(f(m(fq(x))), p), [b.Conv()], [x]), [x])
    (kernel,) = qegraph.explain(fast).contractions
    assert kernel.post_ops == ("hardtanh",) and borders(fast) == (1, 0) and not has(fast, "clamp"), fast.code


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32], ids=str)
@pytest.mark.parametrize("name", CLAMPS)
def test_clamp_of_wider_codes(name: str, dtype: torch.dtype) -> None:
    """Codes may lie outside the range that dequantize is given, which plays no part."""
    x, wide, narrow = torch.randn(50, 40), QP(0.01, 3, *b.WIDE[dtype], dtype), QP(0.01, 3, -20, 20, dtype)
    checked(net(lambda x: F.relu(CLAMPS[name](dq(q(x, wide), narrow))), [], [x]), [x])
    checked(net(lambda x: q(CLAMPS[name](fq(x, narrow)), narrow), [], [x]), [x])
    checked(net(lambda m, x: q(CLAMPS[name](m(fq(x))), wide), [Linear(40, 16)], [x]), [x])


# -- factors


@pytest.mark.parametrize("scale", [lambda x: x * 0.125, lambda x: 0.7 * x, lambda x: x / 3.0, lambda x: x / 5 * 2])
def test_factor_of_codes(scale: Fn) -> None:
    x = torch.randn(5, 24)
    fast = checked(net(lambda m, x: m(scale(fq(x))), [Linear()], [x]), [x])
    assert post_ops(fast) == [""] and not has(fast, "mul") and not has(fast, "div")


@pytest.mark.parametrize("scale", [lambda x: x * -0.5, lambda x: x * 0.0, lambda x: x * 1e-30, lambda x: x * 1e33])
def test_factor_that_is_no_scale(scale: Fn) -> None:
    x = torch.randn(5, 24)
    fast = checked(net(lambda m, x: m(scale(fq(x))), [Linear()], [x]), [x])
    assert post_ops(fast) == [] and has(fast, "mul") == 1


@BOTH
@pytest.mark.parametrize("factor", [0.1, 0.7, 3.0, 1 / math.sqrt(24)])
def test_factor_of_a_product(factor: float, p: QP) -> None:
    """The kernel rounds (x c) / s as x / (s / c): apart at ties only, some 1e-5 of random values."""
    x = torch.randn(500, 24)
    small = p._replace(scale=p.scale * factor)
    fast = checked(net(lambda m, x: q((m(fq(x)) * factor).view(50, 10, 16), small), [Linear()], [x]), [x])
    assert post_ops(fast) == [""] and not has(fast, "mul") and borders(fast) == (1, 0)


def test_factor_of_floats_stays() -> None:
    x = torch.randn(500, 24)
    assert has(checked(net(lambda x: q(x * 0.7), [], [x]), [x]), "mul") == 1


# -- sums


@pytest.mark.parametrize("shape", [(5, 24), (24,), (1, 24), (5, 1)], ids=str)
def test_sum_of_codes_has_no_kernel(shape: tuple[int, ...]) -> None:
    x, y = torch.randn(5, 24), torch.randn(shape)
    fast = checked(net(lambda x, y: q(fq(x) + fq(y, OUT), OUT), [], [x, y]), [x, y])
    assert b.kinds(fast) == [] and has(fast, "add") == 1


@pytest.mark.parametrize("shape", [(2, 5, 16), (16,), (1, 5, 16), (2, 1, 16), (2, 5, 1), (1,)], ids=str)
@pytest.mark.parametrize("swap", [False, True])
@BOTH
def test_residual_of_codes_of_linear(shape: tuple[int, ...], swap: bool, p: QP) -> None:
    def summed(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        product, residual = m(fq(x)), fq(y, p)
        return q(F.relu(residual + product if swap else product + residual), p)

    x, y = torch.randn(2, 5, 24), torch.randn(shape)
    fast = checked(net(summed, [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == ["add+relu"]


@pytest.mark.parametrize("shape", [(2, 8, 7, 7), (8, 1, 1), (2, 8, 1, 1), (1, 8, 7, 7), (7,)], ids=str)
@pytest.mark.parametrize("swap", [False, True])
def test_residual_of_codes_of_conv(shape: tuple[int, ...], swap: bool) -> None:
    def summed(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        product, residual = m(fq(x)), fq(y, OUT)
        return q(F.relu(residual + product if swap else product + residual), OUT)

    x, y = b.image(), torch.randn(shape)
    assert post_ops(checked(net(summed, [Conv()], [x, y]), [x, y])) == ["add+relu"]


# -- forms of contractions

POST_OPS: dict[str, Fn] = {"relu": F.relu, "hardtanh": F.hardtanh, "swish": F.silu, "hardswish": F.hardswish}


@BOTH
@pytest.mark.parametrize("name", POST_OPS)
def test_conv1d_takes_in_what_conv2d_does(name: str, p: QP) -> None:
    x = b.image(1)
    fast = checked(net(lambda m, x: q(POST_OPS[name](m(fq(x))), p), [Conv(1)], [x]), [x])
    assert post_ops(fast) == [name] and borders(fast) == (1, 0)


def test_conv1d_alone_is_one_image() -> None:
    """A view before and after, so that compilers are told its sizes (see `ops/gemm.py`)."""
    x = b.image(1)
    fast = checked(net(lambda m, x: m(fq(x)), [Conv(1)], [x]), [x])
    assert (has(fast, "qconv"), has(fast, "squeeze")) == (1, 2)


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2, "padding": 1}, {"groups": 4}], ids=str)
@pytest.mark.parametrize("quantized", [False, True])
def test_residual_of_conv1d(options: dict[str, int], quantized: bool) -> None:
    def summed(w: Weight, x: Tensor, y: Tensor) -> Tensor:
        product, residual = F.conv1d(fq(x), w(), None, **options), fq(y, OUT) if quantized else y
        summed = F.relu(product + residual)
        return q(summed, OUT) if quantized else summed

    x, weight = torch.randn(2, 8, 15), Weight(8, 8 // options.get("groups", 1), 3)
    y = torch.randn_like(F.conv1d(x, weight(), None, **options))
    assert post_ops(checked(net(summed, [weight], [x, y]), [x, y])) == ["add+relu"]


def test_conv1d_of_unknown_length() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Conv(1), Conv(1)

        def forward(self, x: Tensor) -> Tensor:
            return q(F.relu(self.second(fq(F.hardswish(self.first(fq(x))), OUT)) + x), OUT)

    x = torch.randn(2, 8, 15)
    gm = b.build(Net(), [x], shapes={"x": {2: torch.export.Dim("length", min=4, max=512)}})
    fast = checked(gm, [x])
    assert post_ops(fast)[0] == "hardswish" and has(fast, "aten.conv") == 0
    b.agrees(gm, fast, [torch.randn(2, 8, 40)])


WEIGHTS: dict[str, Callable[[], tuple[Weight, Fn]]] = {
    "permuted": lambda: (Weight(8, 6, 3, 3, axis=1), lambda w: w.permute(1, 0, 2, 3)),
    "transposed pixels": lambda: (Weight(6, 8, 3, 3), lambda w: w.transpose(2, 3)),
    "viewed": lambda: (Weight(6, 72), lambda w: w.view(6, 8, 3, 3)),
    "per tensor": lambda: (Weight(8, 6, 3, 3, scale=0.003), lambda w: w.transpose(0, 1)),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_rearranged_weight_of_conv(name: str) -> None:
    weight, arrange = WEIGHTS[name]()
    x = b.image()
    fast = checked(net(lambda w, x: q(F.conv2d(fq(x), arrange(w())), OUT), [weight], [x]), [x])
    assert post_ops(fast) == [""]


def test_rearranged_weight_whose_scales_end_up_elsewhere() -> None:
    x = b.image()
    gm = net(lambda w, x: F.conv2d(fq(x), w().transpose(0, 1)), [Weight(8, 6, 3, 3)], [x])
    assert "axis 0" in b.stays_float(checked(gm, [x]))
    gm = net(lambda w, x: F.conv2d(fq(x), w().view(6, 8, 3, 3)), [Weight(12, 36)], [x])
    checked(gm, [x])


@pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("scale", [None, 0.003], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("bias", [False, True])
def test_matrix_stored_inputs_first(make: b.Make, rank: int, scale: float | None, bias: bool) -> None:
    """x @ w with w (K, N): transposed once, when it is packed."""
    x = torch.randn(*[3] * (rank - 1), 24)
    part, offset = Weight(24, 16, axis=1, scale=scale), torch.randn(16)

    def product(w: Weight, x: Tensor) -> Tensor:
        y = torch.matmul(fq(x), w())
        return F.gelu(y + offset if bias else y)

    fast = checked(make(product, [part], [x]), [x])
    assert post_ops(fast) == ["gelu"]


def test_matrix_with_scales_along_the_sum_stays() -> None:
    x = torch.randn(5, 24)
    b.stays_float(checked(net(lambda w, x: torch.matmul(fq(x), w()), [Weight(24, 16, axis=0)], [x]), [x]))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_named_padding(padding: str, dims: int) -> None:
    x = b.image(dims)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    dilation = 2 if dims < 3 else 1  # in three dims, the kernel gets some dilations wrong
    weight = Weight(8, 8, *[3] * dims)
    gm = net(lambda w, x: q(convolve(fq(x), w(), padding=padding, dilation=dilation), OUT), [weight], [x])
    assert post_ops(checked(gm, [x])) == [""]


def test_named_padding_that_is_uneven_stays() -> None:
    x = b.image()
    gm = net(lambda w, x: F.conv2d(fq(x), w(), padding="same"), [Weight(8, 8, 2, 2)], [x])
    assert b.kinds(checked(gm, [x])) == []


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_conv_without_batch(dims: int) -> None:
    x = b.image(dims)[0]
    fast = checked(net(lambda m, x: q(F.relu(m(fq(x))), b.FULL_OUT), [Conv(dims)], [x]), [x])
    assert len(post_ops(fast)) == 1 and borders(fast) == (1, 0)


POOLS: dict[str, Fn] = {
    "2x2": lambda x: F.max_pool2d(x, 2),
    "padded": lambda x: F.max_pool2d(x, 3, 2, 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool_of_int8(name: str) -> None:
    x = b.image()
    gm = net(lambda m, n, x: n(fq(POOLS[name](fq(m(fq(x, IN_S8)), OUT_S8)), OUT_S8)), [Conv(), Conv()], [x])
    fast = checked(gm, [x])
    if not b.READS_INT8:
        assert b.post_ops(fast) == []
        return
    assert has(fast, "quantized.max_pool2d") == 1 and borders(fast) == (1, 0) and not has(fast, "xor"), fast.code


def test_max_pool_of_int8_that_is_returned() -> None:
    x = torch.randn(2, 8, 40, 40)
    fast = checked(net(lambda x: q(F.max_pool2d(fq(x, OUT_S8), 3, 2, 1), OUT_S8), [], [x]), [x])
    assert borders(fast)[0] == 1 and borders(fast)[1] == 0


def test_weights_that_are_not_contiguous() -> None:
    x = torch.randn(5, 24)
    part = Linear()
    part.weight.codes = torch.randint(-127, 128, (24, 16), dtype=torch.int8).t()
    assert post_ops(checked(net(lambda m, x: m(dq(q(x, IN))), [part], [x]), [x])) == [""]
