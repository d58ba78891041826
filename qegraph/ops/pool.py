"""Max-pooling, of floats and of codes, and average-pooling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import avg_pool, max_pool, move, vec, view
from qegraph.ops.table import Emission, Reading, means, reads, reads_first_of, val, word
from qegraph.program import Value
from qegraph.snapshot import ENode, Snapshot
from qegraph.torch_names import aten


@reads(aten.max_pool2d.default)
@reads_first_of(aten.max_pool2d_with_indices.default)
def read_max_pool(reading: Reading, value: Value) -> Tensor | None:
    x, kernel, stride, padding, dilation, ceil = value.args
    if not reading.dtype(x).is_floating_point or len(reading.shape(x)) != 4:
        return None
    size, step, border, spread = (vec(*_pair(each)) for each in (kernel, stride or kernel, padding, dilation))
    return max_pool(reading.tensor(x), size, step, border, spread, int(ceil))


@reads(aten.avg_pool2d.default)
def read_avg_pool(reading: Reading, value: Value) -> Tensor | None:
    """Windows that all have the same number of elements, padding counted."""
    x, kernel, stride, padding, ceil, count_padding, divisor = value.args
    size, step, border = (_pair(each) for each in (kernel, stride or kernel, padding))
    if ceil or divisor is not None or (any(border) and not count_padding):
        return None
    return _avg_pool(reading, x, size, step, border)


@reads(aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)
def read_adaptive_avg_pool(reading: Reading, value: Value) -> Tensor | None:
    x, out = value.args
    sizes = reading.shape(x)[-2:]
    wanted = _pair(out)
    if any(size < 0 or size % each for size, each in zip(sizes, wanted, strict=True)):
        return None
    kernel = tuple(size // each for size, each in zip(sizes, wanted, strict=True))
    return _avg_pool(reading, x, kernel, kernel, (0, 0))


@reads(aten.mean.dim)
def read_mean(reading: Reading, value: Value) -> Tensor | None:
    """The mean over both spatial dims is one window."""
    x, dims, keeps_dims, dtype = value.args
    shape = reading.shape(x)
    if dtype is not None or len(shape) != 4 or {d % 4 for d in dims or ()} != {2, 3} or min(shape[2:]) < 1:
        return None
    pooled = _avg_pool(reading, x, shape[2:], shape[2:], (0, 0))
    return pooled if pooled is None or keeps_dims else move(view(vec(*reading.dims(value.fake.shape))), pooled)


def _avg_pool(reading: Reading, x: Any, kernel: Any, stride: Any, padding: Any) -> Tensor | None:
    if reading.dtype(x) != torch.float32 or len(reading.shape(x)) != 4:
        return None
    return avg_pool(reading.tensor(x), vec(*kernel), vec(*stride), vec(*padding))


def _pair(sizes: Any) -> tuple[int, ...]:
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    return tuple(sizes * 2) if len(sizes) == 1 else tuple(sizes)


def _cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    kernel: tuple[int, ...] = node.args[1]
    return (
        rates.aten_call
        + rates.traffic(snapshot, node.eclass) * math.prod(kernel)
        + rates.traffic(snapshot, *node.children)
    )


def _max_pool_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    has_kernel = snapshot.dtype.get(node.eclass) not in ("int8", "float8_e4m3fn")
    return _cost(snapshot, node, rates) if has_kernel else math.inf


@word("MaxPool", _max_pool_cost)
def emit_max_pool(emission: Emission, node: ENode) -> fx.Node:
    """Codes need the quantized kernel: the plain one counts the positions of uint8 inputs in 8 bits."""
    x, *windows, ceil = node.args
    codes = emission.snapshot.dtype.get(node.eclass) == "uint8"
    target = torch.ops.quantized.max_pool2d.default if codes else aten.max_pool2d.default
    return emission.call(target, emission.node(x.number), *(list(each) for each in windows), bool(ceil))


def _avg_pool_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """Windows that don't overlap read everything once."""
    _, kernel, stride, _ = node.args
    once = rates.aten_call + rates.traffic(snapshot, node.eclass, *node.children)
    return once if kernel == stride else _cost(snapshot, node, rates)


@word("AvgPool", _avg_pool_cost)
def emit_avg_pool(emission: Emission, node: ENode) -> fx.Node:
    """One window over everything is a mean, which has the faster kernel."""
    x, kernel, stride, padding = node.args
    if emission.snapshot.shape.get(x.number, ())[2:] == kernel and not any(padding):
        return emission.call(aten.mean.dim, emission.node(x.number), [2, 3], True)
    return emission.call(aten.avg_pool2d.default, emission.node(x.number), *map(list, (kernel, stride, padding)))


def _pad_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.pad_call + 5 * rates.traffic(snapshot, node.eclass)


@word("PadCodes", _pad_cost)
def emit_pad_codes(emission: Emission, node: ENode) -> fx.Node:
    x, padding, value = node.args
    sides = [side for size in reversed(padding) for side in (size, size)]
    return emission.call(aten.constant_pad_nd.default, emission.node(x.number), sides, value)


@means("MaxPool")
def largest(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: int) -> Any:
    """Codes as float32, which has them all."""
    windows = [list(each) for each in (kernel, stride, padding, dilation)]
    dtype = val(x).dtype
    pooled = aten.max_pool2d.default(x if dtype.is_floating_point else x.to(torch.float32), *windows, bool(ceil))
    return pooled.to(dtype)


@means("AvgPool")
def average(x: Any, kernel: Any, stride: Any, padding: Any) -> Any:
    return aten.avg_pool2d.default(x, list(kernel), list(stride), list(padding))


@means("PadCodes")
def padded_codes(x: Any, padding: Any, value: int) -> Any:
    return aten.constant_pad_nd.default(x, [side for size in reversed(padding) for side in (size, size)], value)
