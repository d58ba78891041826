"""float8 quantize and dequantize, which are torchao's operators: read by name, as torchao may not be imported."""

from __future__ import annotations

import math
from typing import Any

import torch

from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import dequantize, float8, quantize
from qegraph.ops.table import Reading, reads_named
from qegraph.program import Ref, Value
from qegraph.torch_names import aten, dtype_name


@reads_named("torchao.quantize_affine_float8_non_decomposed.default")
def read_quantize_float8(reading: Reading, value: Value) -> Tensor | None:
    x, scale, _ = value.args
    known = _scale(reading, scale)
    if known is None or value.fake.dtype != torch.float8_e4m3fn or reading.dtype(x) != torch.float32:
        return None
    return quantize(reading.tensor(x), float8(known))


@reads_named("torchao.dequantize_affine_float8_non_decomposed.default")
def read_dequantize_float8(reading: Reading, value: Value) -> Tensor | None:
    x, scale, _ = value.args
    known = _scale(reading, scale)
    if known is None or reading.dtype(x) != torch.float8_e4m3fn:
        return None
    return dequantize(reading.tensor(x), float8(known), dtype_name(value.fake.dtype))


def _scale(reading: Reading, operand: Any) -> float | None:
    """The one float32 number a scale holds: a constant, or `full([1], number)`."""
    if (
        not isinstance(operand, Ref)
        or reading.dtype(operand) != torch.float32
        or math.prod(reading.shape(operand)) != 1
    ):
        return None
    constant, made = reading.constant(operand), reading.value(operand)
    if constant is not None:
        return float(constant)
    number = made.args[1] if made.target is aten.full.default else None
    return float(torch.tensor(number, dtype=torch.float32)) if isinstance(number, (int, float)) else None
