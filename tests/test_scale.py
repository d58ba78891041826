"""Integer products with their scales, and factors, biases and normalizations behind int8 contractions."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import checked, decomposed_by_torch, fq, has, net, q
from torch import Tensor, nn

import qegraph

aten = torch.ops.aten
M, K, N = 64, 256, 256  # hardly more than makes a kernel cheaper than `_int_mm`, whose loops take long
MAKES = pytest.mark.parametrize("make", [net, decomposed_by_torch], ids=["exported", "decomposed"])


class Quantized(nn.Module):
    """int8 weight (K, N), scales of its columns, a bias, the compensation for activations moved up by 128."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.w = nn.Buffer(torch.randint(-128, 128, (K, N), dtype=torch.int8))
        self.s = nn.Buffer((torch.rand(N) * 0.01 + 0.001).to(dtype))
        self.bias = nn.Buffer(torch.randn(N).to(dtype))
        self.one = nn.Buffer(torch.tensor(0.02))
        self.compensation = nn.Buffer((128 * self.w.sum(0, dtype=torch.int32)).to(torch.int32))


def codes(*shape: int) -> Tensor:
    return torch.randint(-128, 128, shape or (M, K), dtype=torch.int8)


def rows() -> Tensor:
    return torch.rand(M, 1) * 0.05 + 0.01


def kernel(fast: torch.fx.GraphModule, overload: str = "default") -> None:
    assert b.kinds(fast) == [f"qlinear_pointwise.{overload}"] and not has(fast, "_int_mm")


@b.full_range
@MAKES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reshape", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_one_activation_scale(make: b.Make, bias: bool, reshape: bool, shape: tuple[int, ...]) -> None:
    """The kernel takes the scale, the scales of the weight and the bias."""

    def f(p: Any, x: Tensor, s: Tensor) -> Tensor:
        acc = aten._int_mm.default(x.reshape(-1, K), p.w).to(torch.float32) * s * p.s
        acc = acc.reshape(4, M // 4, N) if reshape else acc
        return acc + p.bias if bias else acc

    x, s = codes(4, M // 4, K) if reshape else codes(), torch.full(shape, 0.02)
    fast = checked(make(f, [Quantized()], [x, s]), [x, s])
    kernel(fast, "tensor")
    assert not has(fast, "aten.mul") and not has(fast, "aten.add")


@b.full_range
@MAKES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reshape", [True, False])
@pytest.mark.parametrize("expand", [True, False])
def test_activation_scales_of_rows(make: b.Make, bias: bool, reshape: bool, expand: bool) -> None:
    """They are multiplied afterwards; the scales of the weight are taken in."""

    def f(p: Any, x: Tensor, s: Tensor) -> Tensor:
        acc = aten._int_mm.default(x.reshape(-1, K), p.w).to(torch.float32) * (s.expand(M, N) if expand else s) * p.s
        acc = acc.reshape(4, M // 4, N) if reshape else acc
        return acc + p.bias if bias else acc

    x, s = codes(4, M // 4, K) if reshape else codes(), rows()
    fast = checked(make(f, [Quantized()], [x, s]), [x, s])
    kernel(fast)
    assert has(fast, "aten.mul") == 1 and has(fast, "aten.add") == bias and not has(fast, "expand")


@b.full_range
@MAKES
@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("shape", [(N,), (1, N)], ids=str)
def test_shifted_activation(make: b.Make, per_row: bool, shape: tuple[int, ...]) -> None:
    """uint8 codes moved up by 128, and 128 times the sums of the weight's columns subtracted."""

    def f(p: Any, x: Tensor, s: Tensor) -> Tensor:
        shifted = (x.to(torch.int32) + 128).to(torch.uint8)
        acc = aten._int_mm.default(shifted, p.w) - p.compensation.reshape(shape)
        return acc.to(torch.float32) * s * p.s + p.bias

    x, s = codes(), rows() if per_row else torch.tensor([0.02])
    fast = checked(make(f, [Quantized()], [x, s]), [x, s])
    kernel(fast, "default" if per_row else "tensor")
    assert not has(fast, "aten.sub")


@b.full_range
@MAKES
@pytest.mark.parametrize("shift", [True, False])
def test_bfloat16_between(make: b.Make, shift: bool) -> None:
    """round(acc s_x) s_w, in bfloat16: not further from the real product than the source."""

    def f(p: Any, x: Tensor, s: Tensor) -> Tensor:
        acc = (
            aten._int_mm.default((x.to(torch.int32) + 128).to(torch.uint8), p.w) - p.compensation
            if shift
            else aten._int_mm.default(x, p.w)
        )
        return ((acc.to(torch.float32) * s).to(torch.bfloat16) * p.s).to(torch.float32)

    p, x, s = Quantized(torch.bfloat16), codes(), torch.tensor([0.02])
    gm = make(f, [p], [x, s])
    fast = qegraph.optimize(gm, target="compiled")
    kernel(fast, "tensor")
    exact = (x.double() @ p.w.double()) * s.double() * p.s.double()
    assert (fast(x, s).double() - exact).abs().max() <= (gm(x, s).double() - exact).abs().max()
    assert fast(x, s).dtype == torch.float32


@b.full_range
def test_large_sums_are_rounded_as_the_source_rounds_them() -> None:
    """|acc| goes beyond 2^24, where float32 no longer holds every integer."""
    p = nn.Module()
    p.w = nn.Buffer(torch.full((4096, N), 127, dtype=torch.int8))
    x, s = torch.full((M, 4096), 127, dtype=torch.int8), torch.tensor([0.02])
    fast = checked(net(lambda p, x, s: aten._int_mm.default(x, p.w).to(torch.float32) * s, [p], [x, s]), [x, s])
    kernel(fast, "tensor")


@b.full_range
@MAKES
def test_static_activation_scale(make: b.Make) -> None:
    x = codes()
    gm = make(lambda p, x: aten._int_mm.default(x, p.w).to(torch.float32) * p.one * p.s + p.bias, [Quantized()], [x])
    fast = checked(gm, [x])
    kernel(fast, "tensor")
    assert not has(fast, "aten.mul") and not has(fast, "aten.add")


@b.full_range
def test_more_behind_an_integer_product() -> None:
    """With a scale known at run time the kernel still adds a residual and applies its post-op."""
    x, s, y = codes(), torch.tensor([0.02]), torch.randn(M, N)

    def f(p: Any, x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        return F.relu(aten._int_mm.default(x, p.w).to(torch.float32) * s * p.s + p.bias + y)

    fast = checked(net(f, [Quantized()], [x, s, y]), [x, s, y])
    kernel(fast, "binary_tensor")
    assert b.post_ops(fast) == ["add+relu"]


def test_activation_scale_of_several_columns_is_not_one_number() -> None:
    x, s = codes(), torch.rand(N)
    fast = checked(
        net(lambda p, x, s: aten._int_mm.default(x, p.w).to(torch.float32) * s, [Quantized()], [x, s]), [x, s]
    )
    assert "qlinear_pointwise.tensor" not in b.kinds(fast)


UNSCALED: dict[str, Callable[..., Any]] = {
    "to int64": lambda p, x, s: aten._int_mm.default(x, p.w).to(torch.int64) * 2,
    "weight is computed": lambda p, x, s: aten._int_mm.default(x, p.w + x[0, :1]).to(torch.float32) * p.s,
    "something else subtracted": lambda p, x, s: aten._int_mm.default(x, p.w) - (p.compensation + 1),
}


@b.full_range
def test_integer_product_to_bfloat16_is_rounded_once() -> None:
    x = codes()
    gm = net(lambda p, x: aten._int_mm.default(x, p.w).to(torch.bfloat16) * p.s.to(torch.bfloat16), [Quantized()], [x])
    fast = qegraph.optimize(gm, target="compiled")
    part = gm.get_submodule("parts.0")
    exact = (x.double() @ part.get_buffer("w").double()) * part.get_buffer("s").to(torch.bfloat16).double()
    assert fast(x).dtype == torch.bfloat16 and b.kinds(fast) == ["qlinear_pointwise.default"]
    assert (fast(x).double() - exact).abs().mean() <= (gm(x).double() - exact).abs().mean()


@pytest.mark.parametrize("name", UNSCALED)
def test_integer_product_that_stays(name: str) -> None:
    x, s = codes(), rows()
    fast = checked(net(UNSCALED[name], [Quantized()], [x, s]), [x, s])
    assert b.kinds(fast) == [] and has(fast, "_int_mm") == 1


def test_compensation_without_a_kernel() -> None:
    x = codes()
    fast = checked(net(lambda p, x: aten._int_mm.default(x, p.w) - p.compensation, [Quantized()], [x]), [x])
    assert has(fast, "_int_mm") == 1 and has(fast, "aten.sub") == 1


# -- behind contractions of dequantized values -------------------------------------------------------------------------


class Constants(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.c, self.d = nn.Buffer(torch.randn(shape)), nn.Buffer(torch.randn(shape))


@MAKES
@pytest.mark.parametrize("shape", [(16,), (1, 16), (1, 1, 16)], ids=str)
def test_factor_and_bias_of_linear(make: b.Make, shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 5, 24)
    fast = checked(
        make(lambda f, p, x: q(F.relu(f(fq(x)) * p.c + p.d), b.OUT), [b.Linear(), Constants(*shape)], [x]), [x]
    )
    assert b.post_ops(fast) == ["relu"] and not has(fast, "aten.mul") and not has(fast, "aten.add")


@MAKES
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1, 1)], ids=str)
def test_factor_and_bias_of_conv(make: b.Make, shape: tuple[int, ...]) -> None:
    x = b.image()
    fast = checked(
        make(lambda f, p, x: q(F.relu(f(fq(x)) * p.c + p.d), b.OUT), [b.Conv(), Constants(*shape)], [x]), [x]
    )
    assert b.post_ops(fast) == ["relu"] and not has(fast, "aten.mul") and not has(fast, "aten.add")


@MAKES
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_of_conv(make: b.Make, dims: int, affine: bool) -> None:
    norm = (nn.BatchNorm1d, nn.BatchNorm2d)[dims - 1](8, affine=affine).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            nn.init.uniform_(tensor, 0.2, 2.0)
    x = b.image(dims)
    fast = checked(make(lambda f, n, x: q(F.relu(n(f(fq(x)))), b.OUT), [b.Conv(dims), norm], [x]), [x])
    assert b.post_ops(fast) == ["relu"] and not has(fast, "batch_norm")


def test_batch_norm_of_linear() -> None:
    x, norm = torch.randn(6, 24), nn.BatchNorm1d(16).eval()
    fast = checked(net(lambda f, n, x: q(n(f(fq(x))), b.OUT), [b.Linear(), norm], [x]), [x])
    assert b.post_ops(fast) == [""] and not has(fast, "batch_norm")


def test_many_factors() -> None:
    """A chain of constants is taken in one by one, not in every order."""
    x = torch.randn(2, 5, 24)

    def f(linear: Any, p: Any, x: Tensor) -> Tensor:
        y = linear(fq(x))
        for i in range(24):
            y = y * (p.c if i % 2 else p.d) if i % 3 else y + p.c
        return y

    fast = checked(net(f, [b.Linear(), Constants(16)], [x]), [x], rel=1e-4)
    assert b.kinds(fast) == ["qlinear_pointwise.default"] and not has(fast, "aten.mul")
    assert qegraph.explain(fast).rounds < 60


STAYS: dict[str, Callable[..., Any]] = {
    "rows": lambda f, p, x: f(fq(x)) * p.c[:5, None],
    "outer": lambda f, p, x: f(fq(x))[0, 0] * p.c[:5, None],
    "computed": lambda f, p, x: f(fq(x)) * (p.c + x[0, 0, 0]),
    "after relu": lambda f, p, x: F.relu(f(fq(x))) * p.c,
    "another dtype": lambda f, p, x: f(fq(x)) * p.c.double(),
    "channels elsewhere": lambda f, p, x: F.batch_norm(f(fq(x)), p.c[:5], p.d[:5].abs() + 1),
}


@pytest.mark.parametrize("name", STAYS)
def test_factor_that_stays(name: str) -> None:
    x = torch.randn(2, 5, 24)
    fast = checked(net(STAYS[name], [b.Linear(), Constants(16)], [x]), [x])
    assert has(fast, "batch_norm" if "channels" in name else "aten.mul") == 1
    assert b.kinds(fast) == ["qlinear_pointwise.default"]


def test_factor_and_bias_that_stand_first() -> None:
    """The guards hold on either side of a commutative word."""
    x, parts = torch.randn(5, 24), [b.Linear(), Constants(16)]
    fast = checked(net(lambda f, p, x: p.d + p.c * f(fq(x)), parts, [x]), [x])
    assert b.post_ops(fast) == [""] and not has(fast, "aten.mul") and not has(fast, "aten.add")
