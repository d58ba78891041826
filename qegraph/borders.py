"""quantize and dequantize as they run eagerly: the operators' own arithmetic, bit for bit, without their temporaries.

In eager mode the operators of quantized_decomposed are chains of calls, each with a result of its own; most of their
time goes into fresh memory. Under a compiler the operators themselves are called, which Inductor computes in passing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qegraph.torch_names import quantized_decomposed


def quantize_per_tensor(
    x: torch.Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype
) -> torch.Tensor:
    """clamp(round(x / scale) + zero_point, low, high) as `dtype`, x float32, halves to even."""
    if torch.compiler.is_compiling():
        return quantized_decomposed.quantize_per_tensor.default(x, scale, zero_point, low, high, dtype)
    return x.mul(1.0 / scale).round_().add_(zero_point).clamp_(low, high).to(dtype)


def dequantize_per_tensor(
    x: torch.Tensor, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype
) -> torch.Tensor:
    """(x - zero_point) * scale as float32."""
    if torch.compiler.is_compiling():
        return quantized_decomposed.dequantize_per_tensor.default(x, scale, zero_point, low, high, dtype)
    return torch.sub(x, float(zero_point)).mul_(scale)


OPERATORS: Mapping[Any, Any] = {
    quantize_per_tensor: quantized_decomposed.quantize_per_tensor.default,
    dequantize_per_tensor: quantized_decomposed.dequantize_per_tensor.default,
}
"""Which operator each stands for: what capture makes of them."""
