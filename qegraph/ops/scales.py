"""Integer products, and the constants that are computed when the graph is emitted: scales, biases, norms' factors."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates, elements
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import int_matmul
from qegraph.ops.table import Emission, Reading, emit_constant, free, means, reads, word
from qegraph.program import Ref, Value
from qegraph.snapshot import ENode, Snapshot
from qegraph.torch_names import aten

_CODES = (torch.int8, torch.uint8)


@reads(aten._int_mm.default)
def read_int_mm(reading: Reading, value: Value) -> Tensor | None:
    x, y = value.args
    fits = reading.dtype(x) in _CODES and reading.dtype(y) is torch.int8
    return int_matmul(reading.tensor(x), reading.tensor(y), 0) if fits else None


@reads(aten.sub.Tensor)
def read_compensated(reading: Reading, value: Value) -> Tensor | None:
    """_int_mm(x, y) - z * (column sums of y) = _int_mm(x - z, y)"""
    product, compensation, alpha = value.args
    if alpha != 1 or not isinstance(product, Ref) or reading.value(product).target is not aten._int_mm.default:
        return None
    x, y = reading.value(product).args
    weight = reading.constant(y)
    known = reading.constant(compensation) if isinstance(compensation, Ref) else None
    if weight is None or known is None or weight.dtype is not torch.int8 or reading.dtype(x) not in _CODES:
        return None
    zero_point = _zero_point(weight, known)
    return None if zero_point is None else int_matmul(reading.tensor(x), reading.tensor(y), zero_point)


def _zero_point(weight: torch.Tensor, compensation: torch.Tensor) -> int | None:
    """z with compensation = z * column sums, if there is one."""
    sums = weight.sum(0, dtype=torch.int64)
    if compensation.dtype is not torch.int32 or compensation.shape not in ((len(sums),), (1, len(sums))):
        return None
    flat, largest = compensation.flatten().long(), int(sums.abs().argmax())
    zero_point = int(flat[largest]) // int(sums[largest]) if int(sums[largest]) else 0
    return zero_point if 0 <= zero_point < 256 and torch.equal(flat, zero_point * sums) else None


def _int_matmul_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    x, _, zero_point = node.args
    depth = (snapshot.shape.get(x.number) or (1,))[-1]
    work = elements(snapshot, node.eclass) * abs(depth) / rates.linear_macs
    calls = rates.float_gemm_call + (rates.aten_call if zero_point else 0.0)
    return calls + max(work, rates.traffic(snapshot, node.eclass, *node.children))


@word("IntMatmul", _int_matmul_cost)
def emit_int_matmul(emission: Emission, node: ENode) -> fx.Node:
    x, y, zero_point = node.args
    product = emission.call(aten._int_mm.default, emission.node(x.number), emission.node(y.number))
    if not zero_point:
        return product
    sums = emission.constant(y.number).sum(0, dtype=torch.int32)
    return emission.call(aten.sub.Tensor, product, emission.buffer("compensation", zero_point * sums))


# -- constants ---------------------------------------------------------------------------------------------------------


for _name in ("Product", "Total", "NormFactor", "NormShift"):
    word(_name, free, fresh=False)(emit_constant)


# -- meaning -----------------------------------------------------------------------------------------------------------


@means("IntMatmul")
def integer_product(x: Any, y: Any, zero_point: int) -> Any:
    """In float64, where sums of products of codes are exact."""
    return ((x.to(torch.float64) - zero_point) @ y.to(torch.float64)).to(torch.int32)


@means("Product")
def multiplied(x: Any, c: Any) -> Any:
    return None if x is None else x.flatten() * c.flatten()


@means("Total")
def added(x: Any, c: Any) -> Any:
    return c.flatten() if x is None else x.flatten() + c.flatten()


@means("NormFactor")
def factor_of_norm(w: Any, variance: Any, eps: float) -> Any:
    inverse = (variance + eps).rsqrt()
    return inverse if w is None else w.flatten() * inverse


@means("NormShift")
def shift_of_norm(b: Any, mean: Any, factor: Any) -> Any:
    shift = mean.flatten() * factor
    return -shift if b is None else b.flatten() - shift
