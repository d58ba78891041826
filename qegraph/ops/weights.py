"""Products with a weight that is stored narrower than it is used: int8 codes or half floats."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates, elements
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import cast
from qegraph.ops.elementwise import applied
from qegraph.ops.folding import folds
from qegraph.ops.table import Emission, Reading, dense, means, reads, val, word
from qegraph.packing import PackedHalfLinear
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, dtype_name, dtype_of, onednn, quantized_decomposed

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_SOURCES = (*_FLOATS, torch.int8, torch.uint8, torch.int32)

_CASTS = (
    aten.to.dtype, aten._to_copy.default, torch.ops.prims.convert_element_type.default,
    quantized_decomposed.convert_element_type.no_fuse,
)  # fmt: skip


@reads(*_CASTS)
def read_cast(reading: Reading, value: Value) -> Tensor | None:
    """A change of dtype alone; device, layout and memory format keep their defaults."""
    x, dtype, *options = value.args
    if reading.dtype(x) not in _SOURCES or dtype not in _FLOATS or dtype == reading.dtype(x) or any(options):
        return None
    if reading.dtype(x) is torch.float16:
        note_finite(reading, x)
    return cast(reading.tensor(x), dtype_name(dtype))


def note_finite(reading: Reading, x: Any) -> None:
    """The half-float kernel saturates where the weight is infinite."""
    half = reading.constant(x)
    made = reading.value(x)
    if half is None and made.kind == "call" and made.target in _CASTS:
        wide = reading.constant(made.args[0])
        half = None if wide is None else wide.detach().to(torch.float16)
    if half is not None and bool(half.isfinite().all()):
        reading.fact("finite", reading.tensor(x))


def _cast_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    if folds(snapshot, node):
        return 0.0
    return rates.aten_call + rates.cast_traffic * rates.traffic(snapshot, node.eclass, *node.children)


@word("Cast", _cast_cost)
def emit_cast(emission: Emission, node: ENode) -> fx.Node:
    if folds(emission.snapshot, node):
        return emission.buffer("folded", emission.constant(node.eclass))
    return emission.call(aten.to.dtype, emission.node(node.args[0].number), dtype_of(node.args[1]))


# -- the kernels -------------------------------------------------------------------------------------------------------


def _macs(snapshot: Snapshot, node: ENode) -> float:
    w: int = node.args[1].number
    return float(elements(snapshot, node.eclass) * math.prod(snapshot.shape.get(w, ())[1:]))


def _weight_only_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    macs = {"bfloat16": rates.weight_only_bfloat16_macs, "float16": rates.weight_only_float16_macs}
    rate = macs.get(snapshot.dtype.get(node.eclass, ""), rates.weight_only_float32_macs)
    return rates.aten_call + max(_macs(snapshot, node) / rate, rates.traffic(snapshot, node.eclass, *node.children))


def _dense(emission: Emission, x: Any, weight: tuple[int, ...]) -> Any:
    """A single column is contiguous for torch whatever its stride, which the kernel asks for all the same."""
    if weight[1] == 1:
        return emission.call((aten.clone.default, {"memory_format": torch.contiguous_format}), x)
    return emission.call(aten.contiguous.default, x)


@word("WeightOnly", _weight_only_cost)
def emit_weight_only(emission: Emission, node: ENode) -> fx.Node:
    """The kernel takes matrices, and reads all three of them as dense."""
    x, w, s = node.args
    x_shape = emission.snapshot.shape[x.number]
    operand = emission.node(x.number)
    if len(x_shape) != 2:
        operand = emission.call(aten.reshape.default, operand, [-1, emission.snapshot.shape[w.number][1]])
    dense = operand if emission.dense(x.number, False) else _dense(emission, operand, emission.snapshot.shape[w.number])
    weight = emission.buffer("w_codes", emission.constant(w.number).clone(memory_format=torch.contiguous_format))
    scales = emission.buffer("w_scale", emission.constant(s.number).contiguous())
    product = emission.call(aten._weight_int8pack_mm.default, dense, weight, scales)
    if len(x_shape) == 2:
        return product
    return emission.call(aten.reshape.default, product, emission.sizes(emission.snapshot.shape[node.eclass]))


def _half_linear_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """The kernel widens its weight on every call."""
    widening = elements(snapshot, node.args[1].number) / rates.half_weight
    work = max(_macs(snapshot, node) / rates.half_linear_macs, widening)
    return rates.half_linear_call + max(work, rates.traffic(snapshot, node.eclass, node.args[0].number))


@word("HalfLinear", _half_linear_cost)
def emit_half_linear(emission: Emission, node: ENode) -> fx.Node:
    x, w, b, f = node.args
    weight = emission.constant(w.number)
    packed = emission.packed(lambda: PackedHalfLinear(weight), ("half_linear", w.number))
    target = onednn.linear_dynamic_fp16 if f.args[0] == "identity" else onednn.linear_relu_dynamic_fp16
    return emission.call(target.default, emission.node(x.number), packed, dense(emission, b.number))


@means("Cast")
def converted(x: Any, dtype: str) -> Any:
    return x.to(dtype_of(dtype))


@means("WeightOnly")
def narrow_product(x: Any, w: Any, s: Any) -> Any:
    """Summed in float64, rounded once."""
    return (x.to(torch.float64) @ w.to(torch.float64).t() * s).to(val(x).dtype)


@means("HalfLinear")
def half_product(x: Any, w: Any, b: Any, f: Data) -> Any:
    return applied(f, aten.linear.default(x, w.to(torch.float32), b))
