"""quantize, dequantize, and the XOR that turns int8 codes into uint8 codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.cost import MACHINE, elements, traffic
from qegraph.facts import RANGES
from qegraph.lang.terms import QParams, Tensor
from qegraph.lang.vocabulary import dequantize, per_channel, per_tensor, quantize
from qegraph.ops.table import Emission, Reading, reads, word
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, dtype_name, dtype_of, quantized_decomposed

_MIN_SCALE = 1e-30


def full_range(dtype: torch.dtype, low: int, high: int) -> tuple[int, int]:
    """The range dequantize is given: its own plays no part, so equal codes get equal parameters."""
    return RANGES.get(dtype_name(dtype), (low, high))


def _literal(scale: Any, zero_point: Any) -> bool:
    return isinstance(scale, (int, float)) and isinstance(zero_point, int)


@reads(quantized_decomposed.quantize_per_tensor.default)
def read_quantize(reading: Reading, value: Value) -> Tensor | None:
    x, scale, zero_point, low, high, dtype = value.args
    if not _literal(scale, zero_point) or reading.dtype(x) != torch.float32:
        return None
    return quantize(reading.tensor(x), per_tensor(float(scale), zero_point, low, high, dtype_name(dtype)))


@reads(quantized_decomposed.dequantize_per_tensor.default)
def read_dequantize(reading: Reading, value: Value) -> Tensor | None:
    x, scale, zero_point, low, high, dtype, out_dtype = value.args
    if not _literal(scale, zero_point) or reading.dtype(x) != dtype:
        return None
    q = per_tensor(float(scale), zero_point, *full_range(dtype, low, high), dtype_name(dtype))
    _note_sums(reading, x, q, torch.tensor(scale))
    return dequantize(reading.tensor(x), q, dtype_name(out_dtype or torch.float32))


def _note_sums(reading: Reading, x: Any, q: QParams, scales: torch.Tensor) -> None:
    """The largest |scale * sum of codes| of an output channel, for constant weights of convolutions."""
    weight = reading.constant(x)
    if weight is not None and weight.dim() > 2 and weight.dtype == torch.int8:
        sums = weight.flatten(1).sum(1, dtype=torch.int64).double() * scales
        reading.fact("largest-sum", q, reading.tensor(x), value=float(sums.abs().max()) if sums.numel() else 0.0)


@reads(quantized_decomposed.dequantize_per_channel.default)
def read_dequantize_per_channel(reading: Reading, value: Value) -> Tensor | None:
    x, scales, zero_points, axis, low, high, dtype, out_dtype = value.args
    if zero_points is None or reading.dtype(x) != dtype:
        return None
    axis %= len(reading.shape(x))
    range_ = full_range(dtype, low, high)
    q = per_channel(reading.tensor(scales), reading.tensor(zero_points), axis, *range_, dtype_name(dtype))
    known_scales, known_zero_points = reading.constant(scales), reading.constant(zero_points)
    if known_zero_points is not None and not bool(known_zero_points.any()):
        reading.fact("zeros", reading.tensor(zero_points))
    if known_scales is not None and _sound(known_scales):
        reading.fact("sound-scales", reading.tensor(scales))
        if axis == 0 and known_scales.shape == (reading.shape(x)[0],):
            _note_sums(reading, x, q, known_scales)
    return dequantize(reading.tensor(x), q, dtype_name(out_dtype or torch.float32))


def _sound(scales: torch.Tensor) -> bool:
    return scales.dtype == torch.float32 and bool((scales > _MIN_SCALE).all()) and bool(scales.isfinite().all())


def _quantize_cost(snapshot: Snapshot, node: ENode) -> float:
    read = MACHINE.quantize_read * traffic(snapshot, *node.children[:1])
    return MACHINE.quantize_call + read + traffic(snapshot, node.eclass) / 2


def _dequantize_cost(snapshot: Snapshot, node: ENode) -> float:
    per_tensor_params = node.args[1].name != "PerChannel"
    if node.args[1].name == "Float8":
        return MACHINE.dequantize_call + elements(snapshot, node.eclass) / MACHINE.float8_decoded
    call = MACHINE.dequantize_call if per_tensor_params else MACHINE.dequantize_weight_call
    return call + traffic(snapshot, node.eclass, *node.children[:1])


def _flip_cost(snapshot: Snapshot, node: ENode) -> float:
    return MACHINE.flip_call + traffic(snapshot, node.eclass, *node.children)


def _emit_float8(emission: Emission, node: ENode, name: str, dtype: torch.dtype) -> fx.Node:
    x, q, *_ = node.args
    scale = emission.buffer("scale", torch.tensor([q.args[0]], dtype=torch.float32))
    return emission.call(getattr(torch.ops.torchao, name).default, emission.node(x.number), scale, dtype)


@word("Quantize", _quantize_cost)
def emit_quantize(emission: Emission, node: ENode) -> fx.Node:
    x, q = node.args
    if q.name == "Float8":
        return _emit_float8(emission, node, "quantize_affine_float8_non_decomposed", torch.float8_e4m3fn)
    scale, zero_point, low, high, dtype = q.args
    target = quantized_decomposed.quantize_per_tensor.default
    return emission.call(target, emission.node(x.number), scale, zero_point, low, high, dtype_of(dtype))


@word("Dequantize", _dequantize_cost)
def emit_dequantize(emission: Emission, node: ENode) -> fx.Node:
    x, q, dtype = node.args
    if q.name == "Float8":
        return _emit_float8(emission, node, "dequantize_affine_float8_non_decomposed", dtype_of(dtype))
    if q.name == "PerTensor":
        target = quantized_decomposed.dequantize_per_tensor.default
        scale, zero_point, low, high, codes = q.args
        args: list[Any] = [emission.node(x.number), scale, zero_point, low, high, dtype_of(codes)]
    else:
        target = quantized_decomposed.dequantize_per_channel.default
        scales, zero_points, axis, low, high, codes = q.args
        operands = [emission.node(each.number) for each in (x, scales, zero_points)]
        args = [*operands, axis, low, high, dtype_of(codes)]
    kwargs = {} if dtype == "float32" else {"out_dtype": dtype_of(dtype)}
    return emission.call((target, kwargs), *args)


@word("Flip", _flip_cost)
def emit_flip(emission: Emission, node: ENode) -> fx.Node:
    """XOR has no kernel for -128 in int8, so bytes are what is flipped."""
    x = emission.node(node.args[0].number)
    if emission.snapshot.dtype[node.eclass] == "uint8":
        return emission.call(aten.bitwise_xor.Scalar, emission.call(aten.view.dtype, x, torch.uint8), 0x80)
    return emission.call(aten.view.dtype, emission.call(aten.bitwise_xor.Scalar, x, 0x80), torch.int8)


def code_of(value: float, q: Data) -> int:
    """What quantize makes of one number, as an int: the same operator computes it."""
    scale, zero_point, low, high, dtype = q.args
    number = torch.tensor([value], dtype=torch.float32)
    quantize_per_tensor = quantized_decomposed.quantize_per_tensor.default
    return int(quantize_per_tensor(number, scale, zero_point, low, high, dtype_of(dtype)))


def scale_of(q: Data) -> tuple[float, int]:
    """(scale, zero point) of literal per-tensor parameters; (1, 0) for plain floats."""
    if q.name == "Float8":
        return q.args[0], 0
    return (q.args[0], q.args[1]) if q.name == "PerTensor" else (1.0, 0)


def dtype_in(q: Data) -> torch.dtype:
    """How values are stored under per-tensor parameters, or as plain floats."""
    return torch.float8_e4m3fn if q.name == "Float8" else dtype_of(q.args[0] if q.name == "Real" else q.args[4])
