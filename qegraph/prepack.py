"""Packing as operators on plain tensors: what an exported program calls, and what every packed weight is made by.

A program made by `torch.export` holds plain weights and calls `qegraph::pack_linear(weight, ...)`. Run as it is, that
packs once per weight; compiled by Inductor with the weight a constant, as AOTInductor has it, while compiling.
"""

from __future__ import annotations

import functools
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
    ones = torch.ones(scales)

    def packed(dilation: list[int], x_shape: list[int] | None) -> torch.Tensor:
        return torch.ops.onednn.qconv_prepack(
            weight, ones, x_scale, x_zero_point, stride, padding, dilation, groups, x_shape
        )

    first = packed(dilation, x_shape)
    if _fits(first, x_zero_point):
        return first
    batch, *image = x_shape or [1, weight.shape[1] * groups, *[_NOMINAL_SIZE] * (weight.dim() - 2)]
    if weight[0, 0].numel() == 1:
        others = (packed([each + more for each in dilation], x_shape) for more in range(1, _OTHERS + 1))
    else:
        others = (packed(dilation, [batch + more, *image]) for more in range(1, _OTHERS + 1))
    return next((other for other in others if _fits(other, x_zero_point)), first)


_OTHERS = 3
"""Packing looks its layout up by shapes alone. A weight packed after another of its shape, the one for a zero point and
the other without, whoever packed it, gets the other's layout, and the kernel packs it again on every call (oneDNN 3.12;
tests/test_kernels.py shows it). So it is packed for others, until one was not asked for before: for another dilation,
which means nothing to a window of one element, or for another batch, whose layout is another one now and then (8 of 150
at two threads; of dilations, none).
"""


def _fits(packed: torch.Tensor, x_zero_point: int) -> bool:
    """Whether it is laid out for such activations, as far as can be told."""
    layout, where = _torch.layout_of(packed), _zero_point_flag()
    return not layout or where is None or bool(layout[where] & _COMPENSATES) == (x_zero_point != 0)


_COMPENSATES = 8
"""oneDNN's flag of a weight that carries its sums, which stand for the activation's zero point in a convolution
(`dnnl_memory_extra_flag_compensation_conv_asymmetric_src`, src/common/memory_desc.hpp).
"""


@functools.cache
def _zero_point_flag() -> int | None:
    """Where the flag stands in the bytes of a layout: the place that has it with a zero point, and not without."""
    places: list[set[int]] = []
    for size in (8, 16):
        weight, image = torch.zeros(size, size, 1, 1, dtype=torch.int8), (size, 3, 3)
        layouts = [
            _torch.layout_of(
                torch.ops.onednn.qconv_prepack(
                    weight, torch.ones(1), 1.0, zero, [1, 1], [0, 0], [1, 1], 1, [_NOBODYS_BATCH + zero, *image]
                )
            )
            for zero in (0, 1)
        ]
        places.append({i for i, (a, b) in enumerate(zip(*layouts, strict=True)) if ~a & b & _COMPENSATES})
    common = set.intersection(*places)
    return common.pop() if len(common) == 1 else None


_NOBODYS_BATCH = 2**20 + 7


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
