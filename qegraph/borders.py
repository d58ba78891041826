"""Quantize, dequantize and clamps of codes, each the way it runs fastest: eagerly one, under a compiler another.

In eager mode the operators of quantized_decomposed are chains of calls, each with a result of its own; most of their
time goes into fresh memory: here they are the operators' own arithmetic, bit for bit, in place. Under a compiler the
operators themselves are called, which Inductor computes in passing. What it generates for a clamp of codes takes as
many at once as there are floats in a register, with a copy of each such piece before and after: twenty times as long as
ATen's own (without AVX-512), which is called instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qegraph import _inductor
from qegraph.torch_names import aten, quantized_decomposed


def quantize_per_tensor(
    x: torch.Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype
) -> torch.Tensor:
    """clamp(round(x / scale) + zero_point, low, high) as `dtype`, x float32, halves to even."""
    if torch.compiler.is_compiling():
        return quantized_decomposed.quantize_per_tensor.default(x, scale, zero_point, low, high, dtype)
    levels = x.mul(1.0 / scale).round_().add_(zero_point).clamp_(low, high)
    size = levels.numel()  # a proxy's is none: FX traces through here when it copies or unpickles a graph
    is_large = isinstance(size, int) and size >= _LARGE  # pyright: ignore[reportUnnecessaryIsInstance]
    if dtype == torch.uint8 and is_large:
        levels = levels.to(torch.int16)
    return levels.to(dtype)


_LARGE = 2**15
"""Elements from which one more call costs less than ATen's conversion of floats to uint8, which is not vectorized."""


def dequantize_per_tensor(
    x: torch.Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype
) -> torch.Tensor:
    """(x - zero_point) * scale as float32."""
    if torch.compiler.is_compiling():
        return quantized_decomposed.dequantize_per_tensor.default(x, scale, zero_point, low, high, dtype)
    return x.to(torch.float32).sub_(zero_point).mul_(scale)


def clamp(x: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """clamp(x, low, high) of integers."""
    operator = torch.ops.qegraph.clamp if torch.compiler.is_compiling() else aten.clamp.default
    return operator(x, low, high)


def _fake_clamp(x: torch.Tensor, low: int, high: int) -> torch.Tensor:
    _inductor.register_call(torch.ops.qegraph.clamp.default, aten.clamp.default)
    return aten.clamp.default(x, low, high)


_LIBRARY = torch.library.Library("qegraph", "FRAGMENT")
_LIBRARY.define("clamp(Tensor x, int low, int high) -> Tensor")
_LIBRARY.impl("clamp", aten.clamp.default, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::clamp", _fake_clamp, lib=_LIBRARY)

OPERATORS: Mapping[Any, Any] = {
    quantize_per_tensor: quantized_decomposed.quantize_per_tensor.default,
    dequantize_per_tensor: quantized_decomposed.dequantize_per_tensor.default,
    clamp: aten.clamp.default,
    torch.ops.qegraph.clamp.default: aten.clamp.default,
}
"""Which operator each stands for, and the one an exported graph has: what capture makes of them."""
