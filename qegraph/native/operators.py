"""What torch and Inductor must know of our operators besides the kernels: shapes and strides of results, layouts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from qegraph import _inductor


@functools.cache
def describe_operators() -> None:
    """Register fake kernels, once the library that defines the operators is loaded."""
    for overload in ("", ".tensor"):
        torch.library.register_fake(f"qegraph::qlinear{overload}", _fake_linear)
        torch.library.register_fake(f"qegraph::qconv{overload}", _fake_conv)


def _fake_linear(
    x: torch.Tensor, x_scale: Any, x_zero_point: Any, weight: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None, other: torch.Tensor | None, other_scale: float, other_zero_point: int,
    out_scale: float, out_zero_point: int, out_dtype: torch.dtype, post_op: str, parameters: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    _inductor.register_kernel_lowering(torch.ops.qegraph.qlinear)
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=out_dtype)


def _fake_conv(
    x: torch.Tensor, x_scale: Any, x_zero_point: Any, weight: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None, other: torch.Tensor | None, other_scale: float, other_zero_point: int,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
    out_scale: float, out_zero_point: int, out_dtype: torch.dtype, post_op: str, parameters: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    _inductor.register_kernel_lowering(torch.ops.qegraph.qconv)
    windows = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sizes = [(size + 2 * pad - d * (k - 1) - 1) // step + 1 for size, k, step, pad, d in windows]
    result = x.new_empty((x.shape[0], *sizes, weight.shape[0]), dtype=out_dtype)
    order: Any = (0, result.dim() - 1, *range(1, result.dim() - 1))
    return result.permute(order)
