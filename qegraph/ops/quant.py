"""quantize, dequantize, and the XOR that turns int8 codes into uint8 codes.

Scales and zero points are numbers, or tensors: of one element computed at run time, or one entry per channel.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from qegraph import borders
from qegraph.capture_check import is_far
from qegraph.cost import Rates, elements
from qegraph.facts import RANGES
from qegraph.kernels import FLOATS
from qegraph.lang.terms import QParams, Tensor
from qegraph.lang.vocabulary import cast, dequantize, dynamic, per_channel, per_tensor, quantize
from qegraph.ops.folding import folds
from qegraph.ops.table import Emission, Reading, means, reads, val, word
from qegraph.program import Ref, Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, dtype_name, dtype_of, quantized_decomposed

_MIN_SCALE = 1e-30


def full_range(dtype: torch.dtype, low: int, high: int) -> tuple[int, int]:
    """The range dequantize is given: its own plays no part, so equal codes get equal parameters."""
    return RANGES.get(dtype_name(dtype), (low, high))


@reads(quantized_decomposed.quantize_per_tensor.default, quantized_decomposed.quantize_per_tensor.tensor)
def read_quantize(reading: Reading, value: Value) -> Tensor | None:
    """The operator itself starts by making its operand float32."""
    x, scale, zero_point, low, high, dtype = value.args
    q = _params(reading, scale, zero_point, (low, high), dtype)
    if q is None or not _is_float(reading.dtype(x)):
        return None
    operand = reading.tensor(x)
    return quantize(operand if reading.dtype(x) == torch.float32 else cast(operand, "float32"), q)


@reads(quantized_decomposed.dequantize_per_tensor.default, quantized_decomposed.dequantize_per_tensor.tensor)
def read_dequantize(reading: Reading, value: Value) -> Tensor | None:
    x, scale, zero_point, low, high, dtype, out_dtype = value.args
    out_dtype = out_dtype or torch.float32
    q = _params(reading, scale, zero_point, full_range(dtype, low, high), dtype)
    if q is None or reading.dtype(x) != dtype or not _is_float(out_dtype):
        return None
    if isinstance(number := _number(reading, scale), (int, float)):
        note_sums(reading, x, q, torch.tensor(float(number)))
    return dequantize(reading.tensor(x), q, dtype_name(out_dtype))


def note_sums(reading: Reading, x: Any, q: QParams, scales: torch.Tensor) -> None:
    """The largest |scale * sum of codes| of an output channel, for constant weights of convolutions."""
    weight = reading.constant(x)
    if weight is not None and weight.dim() > 2 and weight.dtype == torch.int8:
        sums = weight.flatten(1).sum(1, dtype=torch.int64).double() * scales
        reading.fact("largest-sum", q, reading.tensor(x), value=float(sums.abs().max()) if sums.numel() else 0.0)


def _is_float(dtype: torch.dtype) -> bool:
    return dtype_name(dtype) in FLOATS


def _params(
    reading: Reading, scale: Any, zero_point: Any, range_: tuple[int, int], dtype: torch.dtype
) -> QParams | None:
    """Per-tensor parameters: numbers, or tensors of one element; constant ones are numbers too."""
    tail = (*range_, dtype_name(dtype))
    scale, zero_point = _number(reading, scale), _number(reading, zero_point)
    if isinstance(scale, (int, float)) and isinstance(zero_point, int):
        if is_far(zero_point, dtype):
            return None
        return per_tensor(float(scale), zero_point, *tail)
    if not (_is_element(reading, scale, _SCALES) and _is_element(reading, zero_point, _ZERO_POINTS)):
        return None
    q = dynamic(reading.tensor(scale), reading.tensor(zero_point), *tail)
    if _is_chosen(reading, scale):
        reading.fact("positive", q)
    return q


_SCALES = (torch.float32, torch.float64)
_ZERO_POINTS = (torch.int32, torch.int64)


def _number(reading: Reading, operand: Any) -> Any:
    """The number in a constant of one element; any other operand as it is."""
    constant = reading.constant(operand)
    return constant.item() if constant is not None and constant.numel() == 1 else operand


def _is_element(reading: Reading, operand: Any, dtypes: tuple[torch.dtype, ...]) -> bool:
    """A tensor of one element that the kernels take as a scale or zero point."""
    return isinstance(operand, Ref) and reading.dtype(operand) in dtypes and reading.shape(operand) in ((), (1,))


def _is_chosen(reading: Reading, scale: Any) -> bool:
    """The scale is one that choose_qparams keeps at or above a positive eps."""
    item = reading.value(scale)
    if item.target is not operator.getitem or item.args[1] != 0:
        return False
    chosen = reading.value(item.args[0])
    return chosen.target is quantized_decomposed.choose_qparams.tensor and chosen.args[3] > _MIN_SCALE


@reads(quantized_decomposed.dequantize_per_channel.default)
def read_dequantize_per_channel(reading: Reading, value: Value) -> Tensor | None:
    x, scales, zero_points, axis, low, high, dtype, out_dtype = value.args
    out_dtype = out_dtype or torch.float32
    if zero_points is None or reading.dtype(x) != dtype or not _is_float(out_dtype):
        return None
    axis %= len(reading.shape(x))
    range_ = full_range(dtype, low, high)
    q = per_channel(reading.tensor(scales), reading.tensor(zero_points), axis, *range_, dtype_name(dtype))
    note_channels(reading, x, q, scales, zero_points)
    return dequantize(reading.tensor(x), q, dtype_name(out_dtype))


def note_channels(reading: Reading, x: Any, q: QParams, scales: Any, zero_points: Any) -> None:
    """What guards ask of per-channel parameters q of codes x, where they are constants."""
    known_scales, known_zero_points = reading.constant(scales), reading.constant(zero_points)
    if known_zero_points is not None and not bool(known_zero_points.any()):
        reading.fact("zeros", reading.tensor(zero_points))
    if known_scales is not None and _sound(known_scales):
        reading.fact("sound-scales", reading.tensor(scales))
        if q.args is not None and q.args[2] == 0 and known_scales.shape == (reading.shape(x)[0],):
            note_sums(reading, x, q, known_scales)


def _sound(scales: torch.Tensor) -> bool:
    return scales.dtype == torch.float32 and bool((scales > _MIN_SCALE).all()) and bool(scales.isfinite().all())


def _quantize_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.quantize_call + elements(snapshot, node.eclass) / rates.quantized


def _folds(snapshot: Snapshot, node: ENode) -> bool:
    return node.args[1].name in ("PerTensor", "PerChannel") and folds(snapshot, node)


def _dequantize_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    if _folds(snapshot, node):
        return 0.0
    per_tensor_params = node.args[1].name != "PerChannel"
    if node.args[1].name == "Float8":
        return rates.dequantize_call + elements(snapshot, node.eclass) / rates.float8_decoded
    call = rates.dequantize_call if per_tensor_params else rates.dequantize_weight_call
    return call + elements(snapshot, node.eclass) / rates.dequantized


def _flip_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.flip_call + rates.traffic(snapshot, node.eclass, *node.children)


def _emit_float8(emission: Emission, node: ENode, name: str, dtype: torch.dtype) -> fx.Node:
    x, q, *_ = node.args
    scale = emission.buffer("scale", torch.tensor([q.args[0]], dtype=torch.float32))
    return emission.call(getattr(torch.ops.torchao, name).default, emission.node(x.number), scale, dtype)


@word("Quantize", _quantize_cost)
def emit_quantize(emission: Emission, node: ENode) -> fx.Node:
    x, q = node.args
    if q.name == "Float8":
        return _emit_float8(emission, node, "quantize_affine_float8_non_decomposed", torch.float8_e4m3fn)
    *_, low, high, dtype = q.args
    target = borders.quantize_per_tensor if q.name == "PerTensor" else quantized_decomposed.quantize_per_tensor.tensor
    return emission.call(target, emission.node(x.number), *scale_of(emission, q), low, high, dtype_of(dtype))


@word("Dequantize", _dequantize_cost)
def emit_dequantize(emission: Emission, node: ENode) -> fx.Node:
    x, q, dtype = node.args
    if _folds(emission.snapshot, node):
        return emission.buffer("folded", emission.constant(node.eclass))
    if q.name == "Float8":
        return _emit_float8(emission, node, "dequantize_affine_float8_non_decomposed", dtype_of(dtype))
    *_, low, high, codes = q.args
    tail = [low, high, dtype_of(codes)]
    operand = emission.node(x.number)
    if q.name == "PerChannel":
        scales, zero_points, axis, *_ = q.args
        target = quantized_decomposed.dequantize_per_channel.default
        tail = [emission.node(scales.number), emission.node(zero_points.number), axis, *tail]
    else:
        is_plain = q.name == "PerTensor" and dtype == "float32"
        operators = quantized_decomposed.dequantize_per_tensor
        target = operators.default if q.name == "PerTensor" else operators.tensor
        target = borders.dequantize_per_tensor if is_plain else target
        tail = [*scale_of(emission, q), *tail]
    if dtype == "float32":
        return emission.call(target, operand, *tail)
    if _subtracts_exactly(q):
        return emission.call((target, {"out_dtype": dtype_of(dtype)}), operand, *tail)
    return emission.call((aten._to_copy.default, {"dtype": dtype_of(dtype)}), emission.call(target, operand, *tail))


def _subtracts_exactly(q: Data) -> bool:
    """With `out_dtype` the operator subtracts the zero point in that dtype (except per channel): exact up to 256."""
    if q.name == "PerChannel":
        return True
    return q.name == "PerTensor" and q.args[4] in RANGES and q.args[2] <= q.args[1] <= q.args[3]


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


def scale_of(emission: Emission, q: Data) -> tuple[Any, Any]:
    """(scale, zero point) of per-tensor parameters, nodes where they are computed; (1, 0) for plain floats."""
    if q.name == "Dynamic":
        return emission.node(q.args[0].number), emission.node(q.args[1].number)
    if q.name == "Float8":
        return q.args[0], 0
    return (q.args[0], q.args[1]) if q.name == "PerTensor" else (1.0, 0)


def dtype_in(q: Data) -> torch.dtype:
    """How values are stored under per-tensor parameters, or as plain floats."""
    return torch.float8_e4m3fn if q.name == "Float8" else dtype_of(q.args[0] if q.name == "Real" else q.args[4])


# -- meaning -----------------------------------------------------------------------------------------------------------


@means("Quantize")
def quantized(x: Any, q: Data) -> Any:
    if q.name == "Float8":
        return (x / q.args[0]).clamp(-448.0, 448.0).to(torch.float8_e4m3fn)
    *head, low, high, dtype = q.args
    operators = quantized_decomposed
    if q.name == "PerChannel":
        return operators.quantize_per_channel.default(x, *head, low, high, dtype_of(dtype))
    target = operators.quantize_per_tensor
    return (target.default if q.name == "PerTensor" else target.tensor)(x, *head, low, high, dtype_of(dtype))


@means("Dequantize")
def dequantized(x: Any, q: Data, dtype: str = "float32") -> Any:
    """Always computed in float32, then rounded; parameters that are made of others act on the entries along dim 0."""
    made = _dequantized(x, q, val(x).dim())
    return made if dtype == "float32" else made.to(dtype_of(dtype))


def _dequantized(x: Any, q: Data, rank: int) -> Any:
    if q.name == "Real":
        return x.to(torch.float32)
    if q.name == "Float8":
        return x.to(torch.float32) * q.args[0]
    if q.name == "Scaled":
        inner, factor = q.args
        return _dequantized(x, inner, rank) * factor.reshape([-1, *[1] * (rank - 1)])
    if q.name == "JoinedParams":
        first, second, n, m = q.args
        halves = (x.narrow(0, 0, n), first), (x.narrow(0, n, m), second)
        return torch.cat([_dequantized(half, each, rank) for half, each in halves])
    if q.name == "CutParams":
        return _dequantized(x, _cut(q), rank)
    *head, low, high, dtype = q.args
    operators = quantized_decomposed
    if q.name == "PerChannel":
        return operators.dequantize_per_channel.default(x, *head, low, high, dtype_of(dtype))
    target = operators.dequantize_per_tensor
    return (target.default if q.name == "PerTensor" else target.tensor)(x, *head, low, high, dtype_of(dtype))


def _cut(q: Data) -> Data:
    """Parameters of a stretch of dim 0, as plain ones."""
    inner, start, length = q.args
    if inner.name == "CutParams":
        inner = _cut(inner)
    if inner.name != "PerChannel":
        return inner
    scales, zero_points, *rest = inner.args
    return Data("PerChannel", (scales.narrow(0, start, length), zero_points.narrow(0, start, length), *rest))


def stored(x: Any, q: Data) -> Any:
    """Floats x as kernels store them: quantized, or rounded to another dtype."""
    return x.to(dtype_of(q.args[0])) if q.name == "Real" else quantized(x, q)


@means("Flip")
def flipped(x: Any) -> Any:
    if val(x).dtype == torch.uint8:
        return (x.to(torch.int16) - 128).to(torch.int8)
    return (x.to(torch.int16) + 128).to(torch.uint8)
