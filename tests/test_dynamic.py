"""Activations quantized with scales computed at run time."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import exact
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, Conv, Linear, borders, checked, decomposed, fq, has, kinds, net, post_ops, q
from torch import Tensor, nn

import qegraph
from qegraph import zoo
from qegraph.coverage.parts import qd

MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])
EPS = 2.0**-23


HIGH = b.highest_exact_code()


def dyn(x: Tensor, dtype: torch.dtype = torch.uint8, low: int = 0, high: int = HIGH, eps: float = EPS) -> Tensor:
    """dequantize(quantize(x)) with parameters chosen from x."""
    scale, zero_point = qd.choose_qparams.tensor(x, low, high, eps, dtype)
    codes = qd.quantize_per_tensor.tensor(x, scale, zero_point, low, high, dtype)
    return qd.dequantize_per_tensor.tensor(codes, scale, zero_point, low, high, dtype)


def rows() -> Tensor:
    return torch.randn(5, 24)


def batch() -> Tensor:
    return torch.randn(2, 5, 24)


LINEAR, BINARY, CONV = "qlinear_pointwise.tensor", "qlinear_pointwise.binary_tensor", "qconv_pointwise.tensor"


def _shared(m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
    operand = dyn(x)
    return m(operand) + F.relu(n(operand))


CASES: dict[str, tuple[Callable[..., Any], list[Callable[[], nn.Module]], Callable[[], Tensor], list[str]]] = {
    "linear": (lambda m, x: m(dyn(x)), [Linear], rows, [""]),
    "linear, int8": (lambda m, x: m(dyn(x, torch.int8, -128, 127)), [Linear], rows, [""]),
    "linear, half the range": (lambda m, x: m(dyn(x, torch.uint8, 0, 127)), [Linear], rows, [""]),
    "linear 3-D relu": (lambda m, x: F.relu(m(dyn(x))), [Linear], batch, ["relu"]),
    "linear gelu": (lambda m, x: F.gelu(m(dyn(x))), [Linear], rows, ["gelu"]),
    "two linears, one activation": (_shared, [Linear, Linear], batch, [""]),  # so small that they run as one
    "linear of linear": (lambda m, n, x: n(dyn(F.relu(m(dyn(x))))), [Linear, lambda: Linear(16)], batch, ["", "relu"]),
    "static output": (lambda m, x: q(F.relu(m(dyn(x))), OUT), [Linear], batch, ["relu"]),
    "static residual": (lambda m, x: q(m(dyn(x)) + fq(x), OUT), [lambda: Linear(24, 24)], rows, ["add"]),
    "dynamic residual": (lambda m, x: F.relu(m(dyn(x)) + dyn(x)), [lambda: Linear(24, 24)], batch, ["add+relu"]),
    "conv relu": (lambda m, x: F.relu(m(dyn(x))), [Conv], b.image, ["relu"]),
    "conv + conv relu": (lambda m, n, x: F.relu(m(dyn(x)) + n(dyn(x))), [Conv, Conv], b.image, ["", "add+relu"]),
    "conv, static output": (lambda m, x: q(m(dyn(x)), OUT), [Conv], b.image, [""]),
    "conv 1-D": (lambda m, x: F.relu(m(dyn(x))), [lambda: Conv(1)], lambda: b.image(1), ["relu"]),
    "conv of max-pool": (lambda m, x: m(dyn(F.max_pool2d(x, 2))), [Conv], b.image, [""]),
}


@MAKES
@pytest.mark.parametrize("case", CASES)
def test_dynamic(case: str, make: b.Make) -> None:
    function, parts, inputs, wanted = CASES[case]
    x = inputs()
    fast = checked(make(function, [part() for part in parts], [x]), [x])
    if case == "linear, int8" and not b.READS_INT8:
        assert b.stays_float(fast)
        return
    assert sorted(post_ops(fast)) == wanted
    assert set(kinds(fast)) <= {LINEAR, BINARY, CONV, "qconv2d_pointwise.binary_tensor"}
    assert has(fast, "dequantize_per") == (case == "dynamic residual")


def test_nothing_of_the_first_input_is_kept() -> None:
    """Scale and zero point of the next call are other ones; all positive, so the zero point is 0."""
    x = torch.randn(2, 8, 7, 7)
    gm = net(lambda m, n, x: (m(dyn(x)), n(dyn(x.flatten(2)))), [Conv(), Linear(49)], [x])
    for input_ in (x, x.abs() * 100, -x.abs() * 1e-3, torch.zeros_like(x), torch.full_like(x, 3.0)):
        checked(gm, [input_], rel=1e-5)


def test_the_output_stays_a_quantize() -> None:
    """Its scale is chosen from the float output, so the kernel can't store codes."""
    x = rows()

    def function(m: nn.Module, x: Tensor) -> Tensor:
        y = m(dyn(x))
        scale, zero_point = qd.choose_qparams.tensor(y, 0, 255, EPS, torch.uint8)
        return qd.quantize_per_tensor.tensor(y, scale, zero_point, 0, 255, torch.uint8)

    fast = checked(net(function, [Linear()], [x]), [x])
    assert kinds(fast) == [LINEAR] and borders(fast) == (2, 0)


def _given(m: nn.Module, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    codes = qd.quantize_per_tensor.tensor(x, scale, zero_point, 0, HIGH, torch.uint8)
    return m(qd.dequantize_per_tensor.tensor(codes, scale, zero_point, 0, HIGH, torch.uint8))


def test_an_unknown_scale_stays_float() -> None:
    """It might be negative or zero."""
    inputs = [rows(), torch.tensor([0.03]), torch.tensor([113])]
    assert "positive" in b.stays_float(checked(net(_given, [Linear()], inputs), inputs))


class _Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()
        self.scale, self.zero_point = nn.Buffer(torch.tensor(0.031)), nn.Buffer(torch.tensor(113))

    def forward(self, x: Tensor) -> Tensor:
        return q(_given(self.linear, x, self.scale, self.zero_point), OUT)


def test_constant_tensors_are_numbers() -> None:
    x = rows()
    fast = checked(b.build(_Constant(), [x]), [x])
    assert kinds(fast) == ["qlinear_pointwise.default"] and borders(fast) == (1, 0)


def test_int8_activations_of_a_convolution_stay_float() -> None:
    """The kernels read uint8, and the zero point to move by 128 is not known."""
    x = b.image()
    assert b.stays_float(checked(net(lambda m, x: m(dyn(x, torch.int8, -128, 127)), [Conv()], [x]), [x]))


def test_eps_of_zero_stays_float() -> None:
    x = rows()
    assert b.stays_float(checked(net(lambda m, x: m(dyn(x, eps=0.0)), [Linear()], [x]), [x]))


def test_batch_norm_of_dynamic_codes_is_a_convolution() -> None:
    """The kernel of its own takes numbers only."""
    x = b.image()
    fast = checked(net(lambda n, x: n(dyn(x)), [nn.BatchNorm2d(8).eval()], [x]), [x])
    assert kinds(fast) == ["qconv_pointwise.tensor"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half(dtype: torch.dtype) -> None:
    x = batch().to(dtype)

    def function(m: nn.Module, x: Tensor) -> Tensor:
        scale, zero_point = qd.choose_qparams.tensor(x, 0, HIGH, EPS, torch.uint8)
        codes = qd.quantize_per_tensor.tensor(x, scale, zero_point, 0, HIGH, torch.uint8)
        operand = qd.dequantize_per_tensor.tensor(codes, scale, zero_point, 0, HIGH, torch.uint8, out_dtype=dtype)
        return F.relu(F.linear(operand, m()))

    fast = exact.checked(net(function, [b.Weight(16, 24, out_dtype=dtype)], [x]), [x])
    assert kinds(fast) == [LINEAR] and post_ops(fast) == ["relu"] and fast(x).dtype == dtype


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.out = nn.Linear(24, 32), nn.Linear(32, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.down(F.gelu(self.up(x))) + x))


@pytest.mark.parametrize("inputs", [rows, batch])
def test_torchao_recipe(inputs: Callable[[], Tensor]) -> None:
    x = inputs()
    gm = zoo.quantize(_Perceptron().eval(), (x,), is_dynamic=True)
    fast = qegraph.optimize(gm, require="int8")
    b.agrees(gm, fast, [x], rel=1e-2)  # a code that flips early is a whole step of the next activation
    assert post_ops(fast) == ["gelu", "add+relu", ""] and not has(fast, "dequantize_per")
    assert set(kinds(fast)) == {LINEAR, BINARY}


def test_compiled() -> None:
    x = b.image()
    gm = net(lambda m, n, x: n(dyn(F.relu(m(dyn(x))).flatten(2))), [Conv(), Linear(49)], [x])
    fast = checked(gm, [x])
    torch.compiler.reset()
    b.agrees(gm, torch.compile(fast), [x], rel=1e-4)
