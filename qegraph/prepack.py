"""Packing as operators on plain tensors: what an exported program calls, and what every packed weight is made by.

A program made by `torch.export` holds plain weights and calls `qegraph::pack_linear(weight, ...)`. Run as it is, that
packs once per weight; compiled by Inductor with the weight a constant, as AOTInductor has it, while compiling.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from qegraph import _inductor, _torch

_NOMINAL_SIZE = 56
"""Of images whose size isn't known when their weight is packed."""


def pack_linear(weight: torch.Tensor, x_shape: list[int] | None) -> torch.Tensor:
    """weight: int8 (N, K); the result has shape (K, N). The operator reads it as if it were contiguous, whatever its
    strides.
    """
    return torch.ops.onednn.qlinear_prepack(weight.contiguous(), x_shape)


def pack_half_linear(weight: torch.Tensor) -> torch.Tensor:
    """weight: float16 (N, K); the result has shape (K, N)."""
    return torch.ops.onednn.linear_prepack_fp16(weight.float(), None)


def pack_conv(
    weight: torch.Tensor,
    scales: int,
    x_scale: float,
    x_zero_point: int,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    x_shape: list[int] | None,
) -> torch.Tensor:
    """weight: int8 (O, I/groups, k...); the result has its shape, but for a kernel of rank 1, which gets another dim.

    scales   how many the weight has, one or O: packing looks at no more of them.
    x_shape  of the activation, for which the layout is chosen; None if unknown.
    """
    problem = (tuple(weight.shape), *map(tuple, (x_shape or (), stride, padding, dilation)), groups)
    is_first = _HAS_ZERO_POINT.setdefault(problem, x_zero_point != 0) == (x_zero_point != 0)
    shape = x_shape if is_first else _distinct(x_shape, weight.shape[1] * groups, weight.dim() - 2)
    ones = torch.ones(scales)
    return torch.ops.onednn.qconv_prepack(weight, ones, x_scale, x_zero_point, stride, padding, dilation, groups, shape)


_HAS_ZERO_POINT: dict[tuple[Any, ...], bool] = {}
"""Convolution -> whether the first one of its kind in this process has a zero point: it is packed for its own shape."""


def _distinct(x_shape: list[int] | None, channels: int, rank: int) -> list[int]:
    """A shape to pack for that no other convolution of its kind has, but for the batch the same.

    Packing looks its descriptor up by shape alone. A weight packed after another of its shape, the one with a zero
    point and the other without, gets the other's layout, and the kernel packs it again on every call (oneDNN 3.12;
    tests/test_kernels.py shows it).
    """
    batch, *rest = x_shape or [1, channels, *[_NOMINAL_SIZE] * rank]
    return [batch + 1, *rest]


# -- operators ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    """state  of the weight then: where its bytes are, how often they were written. by  operands -> packed tensor."""

    state: tuple[Any, ...]
    by: dict[tuple[Any, ...], torch.Tensor]


_MADE: MutableMapping[torch.Tensor, _Made] = WeakTensorKeyDictionary()


def _once(pack: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`pack`, but a weight that is still what it was isn't packed again.

    Inference tensors don't count the writes to them, so nobody can tell: they are packed on every call.
    """

    def packed(weight: torch.Tensor, *operands: Any) -> torch.Tensor:
        if weight.is_inference():
            return pack(weight, *operands)
        state = (weight.data_ptr(), weight.shape, weight.stride(), weight.dtype, _torch.version_of(weight))
        made = _MADE.get(weight)
        if made is None or made.state != state:
            made = _MADE[weight] = _Made(state, {})
        key = (pack, repr(operands))
        if key not in made.by:
            with torch.no_grad():
                made.by[key] = pack(weight, *operands)
        return made.by[key]

    return packed


def _define(pack: Callable[..., torch.Tensor], arguments: str, packed_shape: Callable[[torch.Size], list[int]]) -> Any:
    """The operator of `pack`. The strides of an opaque tensor mean nothing, but where they are other than oneDNN's,
    Inductor would copy it to get those.
    """
    name = pack.__name__

    def fake(weight: torch.Tensor, *_: Any) -> torch.Tensor:
        _inductor.register_folding(getattr(torch.ops.qegraph, name).default, pack)
        shape = packed_shape(weight.shape)
        return weight.new_empty_strided(shape, [1, *[0] * (len(shape) - 1)])

    _LIBRARY.define(f"{name}({arguments}) -> Tensor")
    _LIBRARY.impl(name, _once(pack), "CompositeExplicitAutograd")
    torch.library.register_fake(f"qegraph::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.qegraph, name).default


def _transposed(shape: torch.Size) -> list[int]:
    return [shape[1], shape[0]]


def _with_height(shape: torch.Size) -> list[int]:
    return [*shape[:2], 1, shape[2]] if len(shape) == 3 else list(shape)


_LIBRARY = torch.library.Library("qegraph", "FRAGMENT")
LINEAR = _define(pack_linear, "Tensor weight, int[]? x_shape", _transposed)
HALF_LINEAR = _define(pack_half_linear, "Tensor weight", _transposed)
CONV = _define(
    pack_conv,
    "Tensor weight, int scales, float x_scale, int x_zero_point, int[] stride, int[] padding, int[] dilation, "
    "int groups, int[]? x_shape",
    _with_height,
)
