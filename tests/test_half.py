"""int8 kernels inside bfloat16 and float16 models: as autocast, explicit casts and `out_dtype` write them."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import builders as b
import exact
import pytest
import torch
import torch.nn.functional as F
from builders import IN, IN_S8, OUT, OUT_S8, QP, Conv, Linear, Weight, borders, dq, fq, has, post_ops, q
from torch import Tensor, nn
from torch.fx import GraphModule

from qegraph import zoo

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


class _Autocast(nn.Module):
    def __init__(self, function: Callable[..., Any], parts: Sequence[nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.function, self.dtype, self.parts = function, dtype, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast("cpu", dtype=self.dtype):
            return self.function(*self.parts, *inputs)


def autocast(
    function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor], dtype: torch.dtype
) -> GraphModule:
    return b.build(_Autocast(function, parts, dtype), inputs, strict=False)


class _Cast(nn.Module):
    """A linear or convolution with its operands and bias cast, or dequantized to `dtype` (`direct`)."""

    def __init__(self, part: Linear | Conv, dtype: torch.dtype, direct: bool, p: QP = IN) -> None:
        super().__init__()
        self.part, self.dtype, self.direct, self.p = part, dtype, direct, p
        if direct:
            part.weight.out_dtype = dtype
            assert part.bias is not None
            part.bias = nn.Buffer(part.bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        part, bias = self.part, self.part.bias
        x = dq(q(x, self.p), self.p, self.dtype) if self.direct else fq(x, self.p).to(self.dtype)
        w = part.weight() if self.direct else part.weight().to(self.dtype)
        bias = bias.to(self.dtype) if bias is not None else None
        if isinstance(part, Linear):
            return F.linear(x, w, bias)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[part.dims - 1]
        return convolve(x, w, bias, **part.options)


Case = tuple[Callable[..., Any], list[Callable[[], nn.Module]], str, list[str], tuple[int, int]]
"""Function of parts and inputs, the parts, which inputs, the kernels' post-ops, quantize and dequantize calls left."""

INPUTS: dict[str, Callable[[], list[Tensor]]] = {
    "rows": lambda: [torch.randn(64, 24)],
    "rows, rows": lambda: [torch.randn(64, 24), torch.randn(64, 16)],
    "batch": lambda: [torch.randn(4, 16, 24)],
    "batch, batch": lambda: [torch.randn(4, 16, 24), torch.randn(4, 16, 16)],
    "batch, row": lambda: [torch.randn(4, 16, 24), torch.randn(16)],
    "line": lambda: [b.image(1)],
    "image": lambda: [b.image()],
    "image, image": lambda: [b.image(), b.image()],
    "volume": lambda: [b.image(3)],
}

CASES: dict[str, Case] = {
    "linear": (lambda m, x: m(fq(x)), [Linear], "rows", [""], (1, 0)),
    "linear, no bias": (lambda m, x: m(fq(x)), [lambda: Linear(bias=False)], "batch", [""], (1, 0)),
    "linear, int8": (lambda m, x: q(m(fq(x, IN_S8)), OUT_S8), [Linear], "rows", [""], (1, 0)),
    "linear, per-tensor weight": (lambda m, x: m(fq(x)), [lambda: Linear(scale=0.01)], "rows", [""], (1, 0)),
    "linear 3-D": (lambda m, x: m(fq(x)), [Linear], "batch", [""], (1, 0)),
    "linear relu": (lambda m, x: F.relu(m(fq(x))), [Linear], "batch", ["relu"], (1, 0)),
    "linear gelu": (lambda m, x: F.gelu(m(fq(x))), [Linear], "batch", ["gelu"], (1, 0)),
    "linear gelu-tanh": (lambda m, x: F.gelu(m(fq(x)), approximate="tanh"), [Linear], "rows", ["gelu"], (1, 0)),
    "linear silu": (lambda m, x: F.silu(m(fq(x))), [Linear], "rows", ["swish"], (1, 0)),
    "linear q": (lambda m, x: q(m(fq(x)), OUT), [Linear], "batch", [""], (1, 0)),
    "linear relu q": (lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear], "batch", ["relu"], (1, 0)),
    "linear cast q": (lambda m, x: q(m(fq(x)).float(), OUT), [Linear], "rows", [""], (1, 0)),
    "linear view q": (lambda m, x: q(F.relu(m(fq(x))).flatten(1), OUT), [Linear], "batch", ["relu"], (1, 0)),
    "linear to float": (lambda m, x: m(fq(x)).float(), [Linear], "rows", [""], (1, 0)),
    "linear + float": (lambda m, x, y: m(fq(x)) + y, [Linear], "rows, rows", ["add"], (1, 0)),
    "linear + row": (lambda m, x, y: y + m(fq(x)), [Linear], "batch, row", ["add"], (1, 0)),
    "linear + dq relu": (lambda m, x, y: F.relu(fq(y) + m(fq(x))), [Linear], "batch, batch", ["add+relu"], (2, 1)),
    "linear + dq q": (lambda m, x, y: q(m(fq(x)) + fq(y), OUT), [Linear], "batch, batch", ["add"], (2, 0)),
    "linear + linear": (lambda m, n, x: m(fq(x)) + n(fq(x)), [Linear, Linear], "rows", ["", "add"], (1, 0)),
    "linear + linear relu q": (
        lambda m, n, x: q(F.relu(m(fq(x)) + n(fq(x))), OUT), [Linear, Linear], "batch", ["", "add+relu"], (1, 0),
    ),
    "conv": (lambda m, x: m(fq(x)), [Conv], "image", [""], (1, 0)),
    "conv relu": (lambda m, x: F.relu(m(fq(x))), [Conv], "image", ["relu"], (1, 0)),
    "conv silu": (lambda m, x: F.silu(m(fq(x))), [Conv], "image", ["swish"], (1, 0)),
    "conv hardtanh q": (lambda m, x: q(F.hardtanh(m(fq(x))), OUT), [Conv], "image", ["hardtanh"], (1, 0)),
    "conv q": (lambda m, x: q(m(fq(x)), OUT), [Conv], "image", [""], (1, 0)),
    "conv int8": (lambda m, x: q(m(fq(x, IN_S8)), OUT), [Conv], "image", [""], (1, 0)),
    "conv relu flatten q": (lambda m, x: q(F.relu(m(fq(x))).flatten(1), OUT), [Conv], "image", ["relu"], (1, 0)),
    "conv + float": (lambda m, x, y: m(fq(x)) + y, [Conv], "image, image", ["add"], (1, 0)),
    "conv + dq relu q": (
        lambda m, x, y: q(F.relu(m(fq(x)) + fq(y)), OUT), [Conv], "image, image", ["add+relu"], (2, 0),
    ),
    "conv + conv": (lambda m, n, x: m(fq(x)) + n(fq(x)), [Conv, Conv], "image", ["", "add"], (1, 0)),
    "conv + conv relu": (lambda m, n, x: F.relu(m(fq(x)) + n(fq(x))), [Conv, Conv], "image", ["", "add+relu"], (1, 0)),
    "conv 1-D": (lambda m, x: F.relu(m(fq(x))), [lambda: Conv(1)], "line", ["relu"], (1, 0)),
    "conv 3-D": (lambda m, x: m(fq(x)), [lambda: Conv(3)], "volume", [""], (1, 0)),
    "two convs": (lambda m, n, x: q(n(fq(F.relu(m(fq(x))))), QP(0.1, 91)), [Conv, Conv], "image", ["relu", ""], (1, 0)),
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_autocast(case: str, dtype: torch.dtype) -> None:
    function, parts, inputs, wanted, left = CASES[case]
    xs = INPUTS[inputs]()
    fast = exact.checked(autocast(function, [part() for part in parts], xs, dtype), xs)
    if "int8" in case and not b.READS_INT8:
        assert post_ops(fast) == []
        return
    assert post_ops(fast) == wanted and borders(fast) == left
    kept_float16 = dtype == torch.float16 and case.startswith("conv")  # no convolution kernel is sure to store it
    assert has(fast, "_to_copy") <= kept_float16


@DTYPES
@pytest.mark.parametrize("direct", [False, True], ids=["cast", "out_dtype"])
@pytest.mark.parametrize("make", [b.net, b.decomposed], ids=["exported", "decomposed"])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_casts_and_out_dtype(part: Callable[[], Any], make: b.Make, direct: bool, dtype: torch.dtype) -> None:
    x = torch.randn(4, 16, 24) if part is Linear else b.image()
    for function, wanted in (
        (lambda m, x: F.relu(m(x)), ["relu"]),
        (lambda m, x: q(F.relu(m(x)), OUT), ["relu"]),
        (lambda m, x: F.relu(m(x)), ["relu"]),
    ):
        fast = exact.checked(make(function, [_Cast(part(), dtype, direct)], [x]), [x])
        assert sorted(post_ops(fast)) == wanted


@DTYPES
def test_the_dtypes_are_read_not_assumed(dtype: torch.dtype) -> None:
    """Each output has the dtype of the source, whatever else is computed from the same accumulator."""
    x = torch.randn(64, 24)

    def function(m: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        y = m(fq(x))
        return y, y.to(dtype), q(y.to(dtype), OUT)

    fast = exact.checked(b.net(function, [Linear()], [x]), [x])
    assert [each.dtype for each in fast(x)] == [torch.float32, dtype, torch.uint8]


@DTYPES
def test_no_float_is_made_of_its_rounded_value(dtype: torch.dtype) -> None:
    """The codes give back what was rounded away, never the reverse."""
    x = torch.randn(64, 24)
    gm = b.net(lambda x: (dq(q(x)), dq(q(x), IN, dtype), dq(q(x), IN, dtype).float() * 3), [], [x])
    fast = exact.checked(gm, [x])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(fast(x)[:2], gm(x)[:2], strict=True))


@DTYPES
def test_codes_survive_a_half(dtype: torch.dtype) -> None:
    x = torch.randn(64, 24)
    fast = exact.checked(b.net(lambda x: q(dq(q(x), IN, dtype).reshape(24, 64)), [], [x]), [x])
    assert borders(fast) == (1, 0)


@DTYPES
def test_wide_codes_are_not_subtracted_in_half(dtype: torch.dtype) -> None:
    """`out_dtype` would round the zero point and the codes: they are dequantized first, then cast."""
    x = torch.randn(64, 24)
    p = QP(0.0001, 4097, -(2**15), 2**15 - 1, torch.int16)
    exact.checked(b.net(lambda x: dq(q(x, p), p).to(dtype), [], [x]), [x])


def test_float64_stays() -> None:
    x, bias = torch.randn(5, 24), torch.randn(16, dtype=torch.float64)
    gm = b.net(lambda m, x, bias: F.linear(fq(x).double(), m().double(), bias), [Weight(16, 24)], [x, bias])
    assert b.kinds(b.checked(gm, [x, bias])) == []


@DTYPES
def test_casts_of_no_int8_kernel_stay(dtype: torch.dtype) -> None:
    """Floats are rounded as often as the source says."""
    x = torch.randn(64, 24)
    fast = b.checked(b.net(lambda x: (x.to(dtype).float() + 1, x.to(dtype) * 2), [], [x]), [x], rel=0)
    assert has(fast, "aten.to") == 2


def test_a_residual_of_another_half() -> None:
    """bfloat16 + float16 = float32: the kernel reads one half, the sum is stored as the source says."""
    x, y = torch.randn(64, 24), torch.randn(64, 16, dtype=torch.float16)
    gm = autocast(lambda m, x, y: m(fq(x)) + y, [Linear()], [x, y], torch.bfloat16)
    fast = exact.checked(gm, [x, y])
    assert fast(x, y).dtype == torch.float32 and post_ops(fast) == ["add"]


@DTYPES
@pytest.mark.parametrize("make", [nn.Linear, nn.Conv2d])
def test_torchao_recipe_of_a_half_model(make: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    """`convert_pt2e` writes the model's own dtype as `out_dtype`."""
    sizes = (24, 24) if make is nn.Linear else (8, 8, 3)
    model = nn.Sequential(make(*sizes), nn.ReLU(), make(*sizes)).eval().to(dtype)
    x = (torch.randn(4, 16, 24) if make is nn.Linear else b.image()).to(dtype)
    gm = zoo.quantize(model, (x,))
    fast = exact.checked(gm, [x])
    assert post_ops(fast) == ["relu", ""] and borders(fast)[1] == 0


def test_compiled() -> None:
    x = torch.randn(64, 24)
    gm = autocast(lambda m, x: F.gelu(m(fq(x))), [Linear()], [x], torch.bfloat16)
    fast = exact.checked(gm, [x])
    torch.compiler.reset()
    exact.not_further(gm, torch.compile(fast), [x])
