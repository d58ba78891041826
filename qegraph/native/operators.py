"""What torch and Inductor must know of our operators besides the kernels: shapes and strides of results, layouts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from qegraph import _inductor

NAMES = frozenset(f"qegraph.{kind}{scales}.default" for kind in ("qlinear", "qconv") for scales in ("", "_dynamic"))


def is_operator(target: Any) -> bool:
    """Whether a node's target is one of them."""
    return str(target) in NAMES


@functools.cache
def describe_operators() -> None:
    """Register fake kernels, once the library that defines the operators is loaded."""
    for scales in ("", "_dynamic"):
        torch.library.register_fake(f"qegraph::qlinear{scales}", _fake_linear)
        torch.library.register_fake(f"qegraph::qconv{scales}", _fake_conv)


def _fake_linear(
    x: torch.Tensor, x_scale: Any, x_zero_point: Any, weight: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None, other: torch.Tensor | None, other_scale: float, other_zero_point: int,
    out_scale: float, out_zero_point: int, out_dtype: torch.dtype, post_op: str, parameters: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    _inductor.register_kernel_lowering(torch.ops.qegraph.qlinear.default)
    _inductor.register_kernel_lowering(torch.ops.qegraph.qlinear_dynamic.default)
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=out_dtype)


def _fake_conv(
    x: torch.Tensor, x_scale: Any, x_zero_point: Any, weight: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None, other: torch.Tensor | None, other_scale: float, other_zero_point: int,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
    out_scale: float, out_zero_point: int, out_dtype: torch.dtype, post_op: str, parameters: Sequence[float],
) -> torch.Tensor:  # fmt: skip
    _inductor.register_kernel_lowering(torch.ops.qegraph.qconv.default)
    _inductor.register_kernel_lowering(torch.ops.qegraph.qconv_dynamic.default)
    windows = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sizes = [(size + 2 * pad - d * (k - 1) - 1) // step + 1 for size, k, step, pad, d in windows]
    result = x.new_empty((x.shape[0], *sizes, weight.shape[0]), dtype=out_dtype)
    order: Any = (0, result.dim() - 1, *range(1, result.dim() - 1))
    return result.permute(order)
