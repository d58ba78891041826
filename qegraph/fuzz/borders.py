"""Quantize and dequantize: parameters that fit the data, now and then those of another value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qegraph.coverage.parts import QP, qd
from qegraph.kernels import highest_exact_code

from .draft import Draft, Refused, Value

_RANGES = (
    *[(0, highest_exact_code(), torch.uint8)] * 5,
    *[(-128, 127, torch.int8)] * 3,
    (0, 127, torch.uint8),
    (-127, 127, torch.int8),
    (3, 200, torch.uint8),
    (-100, 90, torch.int8),
    (-32768, 32767, torch.int16),
)


def quantize(d: Draft, x: Value, qp: QP | None = None) -> Value:
    """Codes of a float value."""
    if qp is None:
        qp = _fitting(d, x.tensor)
        known = [each.qp for each in d.pool if each.qp is not None]
        if known and d.chance(0.35):
            qp = d.rng.choice(known)
    return d.call(qd.quantize_per_tensor.default, x, *qp, qp=qp)


def dequantize(d: Draft, codes: Value) -> Value:
    if codes.qp is None:
        raise Refused
    halves: dict[str, Any] = {}
    if d.chance(0.04):
        halves = {"out_dtype": torch.bfloat16}
    return d.call(qd.dequantize_per_tensor.default, codes, *codes.qp, **halves)


def quantized_again(d: Draft, x: Value) -> Value:
    return dequantize(d, d.keep(quantize(d, x)))


def weight(d: Draft, *shape: int) -> Value:
    """A dequantized int8 weight, per channel along its first dim or per tensor."""
    codes = torch.randint(-127, 128, shape, dtype=torch.int8, generator=d.generator)
    fan_in = max(1, codes[:1].numel())
    scale = 0.02 / fan_in**0.5
    if d.chance(0.3):
        zp = 0 if d.chance(0.8) else d.rng.randint(-9, 9)
        return d.call(
            qd.dequantize_per_tensor.default,
            d.constant(codes), scale * d.rng.uniform(0.5, 1.5), zp, -128, 127, torch.int8,
        )  # fmt: skip
    scales = (torch.rand(shape[0], generator=d.generator) + 0.5) * scale
    zps = torch.zeros(shape[0], dtype=torch.int64)
    return d.call(
        qd.dequantize_per_channel.default,
        d.constant(codes), d.constant(scales), d.constant(zps), 0, -128, 127, torch.int8,
    )  # fmt: skip


def _fitting(d: Draft, x: Tensor) -> QP:
    """A scale by which most of the range is used, sometimes too much or too little, and any zero point inside it."""
    lo, hi, dtype = d.rng.choice(_RANGES)
    largest = float(x.abs().max()) if x.numel() else 1.0
    scale = max(largest, 0.01) / ((hi - lo) / 2) * d.rng.uniform(0.6, 1.6)
    non_negative = bool(x.numel()) and float(x.min()) >= 0
    zp = lo if non_negative and d.chance(0.8) else d.rng.randint(lo + (hi - lo) // 3, hi - (hi - lo) // 3)
    return QP(scale, zp, lo, hi, dtype)


def read(d: Draft, *ranks: int) -> Value:
    """What a contraction reads: a float32 value, mostly one that was dequantized, if need be now."""
    x = d.floats(*ranks)
    is_dequantized = "dequantize" in str(x.node.target)
    if is_dequantized or d.chance(0.2):
        return x
    return d.keep(quantized_again(d, x))


def _again(d: Draft) -> Value:
    return quantized_again(d, d.pick(lambda v: v.is_float))


def _quantized(d: Draft) -> Value:
    return quantize(d, d.floats())


def _dequantized(d: Draft) -> Value:
    return dequantize(d, d.pick(lambda v: v.qp is not None))


OPS = {"quantize-dequantize": _again, "quantize": _quantized, "dequantize": _dequantized}
