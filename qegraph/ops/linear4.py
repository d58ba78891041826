"""Linears over 4-bit weights, read so that several run as one: torchao's, of dynamically quantized activations, and
aten's, of plain floats.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates, elements
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import (
    absent,
    blocks4,
    dynamic,
    groups4,
    identity,
    linear4,
    nothing,
    qgemm,
    real,
    weight_only4,
)
from qegraph.ops.table import Emission, Reading, reads, reads_named
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, dtype_name, dtype_of


@reads_named("torchao.da8w4_linear_cpu.default")
def read_linear4(reading: Reading, value: Value) -> Tensor | None:
    x, scales, zero_points, w, *weight_params, b, _ = value.args
    constants = [w, *weight_params, *([] if b is None else [b])]
    if any(reading.constant(each) is None for each in constants) or len(reading.shape(w)) != 4:
        return None
    if b is not None and reading.dtype(b) != torch.float32:
        return None
    qx = dynamic(reading.tensor(scales), reading.tensor(zero_points), 0, 0, dtype_name(reading.dtype(x)))
    qw = blocks4(*(reading.tensor(each) for each in weight_params))
    bias = nothing() if b is None else reading.tensor(b)
    out = real(dtype_name(value.fake.dtype))
    x, w = reading.tensor(x), reading.tensor(w)
    return qgemm(linear4(), x, qx, w, qw, bias, nothing(), absent(), identity(), out)


def emit_linear4(emission: Emission, node: ENode) -> fx.Node:
    _, x, qx, w, qw, b, *_, out = node.args
    activation = [emission.node(each.number) for each in (x, *qx.args[:2])]
    weight = [emission.node(w.number), *_params(emission, qw), emission.node(b.number)]
    target: Any = torch.ops.torchao.da8w4_linear_cpu.default
    return emission.call(target, *activation, *weight, dtype_of(out.args[0]))


def _params(emission: Emission, qw: Data) -> list[fx.Node]:
    """Scales, zero points and compensation: the source's own, or joined along their first dim."""
    if qw.name == "Blocks4":
        return [emission.node(each.number) for each in qw.args]
    return [emission.buffer("blocks", tensor) for tensor in _joined(emission, qw)]


def _joined(emission: Emission, qw: Data) -> list[torch.Tensor]:
    if qw.name == "Blocks4":
        return [emission.constant(each.number) for each in qw.args]
    halves = (_joined(emission, each) for each in qw.args[:2])
    return [torch.cat(pair) for pair in zip(*halves, strict=True)]


# -- of plain floats ---------------------------------------------------------------------------------------------------


@reads(aten._weight_int4pack_mm_for_cpu.default)
def read_weight_only4(reading: Reading, value: Value) -> Tensor | None:
    """The kernel reads the scales as if they were dense, whatever their strides: others stay as they are."""
    x, w, group, params = value.args
    scales = reading.constant(params)
    if not isinstance(group, int) or (scales is not None and not scales.is_contiguous()):
        return None
    stored = real(dtype_name(reading.dtype(x)))
    qw = groups4(reading.tensor(params), group)
    x, w = reading.tensor(x), reading.tensor(w)
    return qgemm(weight_only4(), x, stored, w, qw, nothing(), nothing(), absent(), identity(), stored)


def weight_only4_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    _, x, _, w, *_ = node.args
    macs = elements(snapshot, x.number) * snapshot.shape[w.number][0]
    of = {"bfloat16": rates.weight_only4_bfloat16_macs, "float16": rates.weight_only4_float16_macs}
    rate = of.get(snapshot.dtype[node.eclass], rates.weight_only4_float32_macs)
    return rates.aten_call + max(macs / rate, rates.traffic(snapshot, node.eclass, x.number, w.number))


def emit_weight_only4(emission: Emission, node: ENode) -> fx.Node:
    """The kernel refuses an activation that isn't dense, which a part of a joined product may be."""
    _, x, _, w, qw, *_ = node.args
    operand = emission.node(x.number)
    if operand.op != "placeholder" and not emission.dense(x.number, False):
        operand = emission.call(aten.contiguous.default, operand)
    if qw.name == "Groups4":
        params = emission.node(qw.args[0].number)
    else:
        params = emission.buffer("groups", torch.cat(_groups(emission, qw), 1))
    target = aten._weight_int4pack_mm_for_cpu.default
    return emission.call(target, operand, emission.node(w.number), _group(qw), params)


def _groups(emission: Emission, qw: Data) -> list[torch.Tensor]:
    """Scales and zeros of all weights that are joined, in their order."""
    if qw.name == "Groups4":
        return [emission.constant(qw.args[0].number)]
    return [tensor for half in qw.args[:2] for tensor in _groups(emission, half)]


def _group(qw: Data) -> int:
    return qw.args[1] if qw.name == "Groups4" else _group(qw.args[0])
