"""Batch normalization with fixed statistics: in floats, and oneDNN's kernel on codes."""

from __future__ import annotations

from typing import Any

from torch import fx

from qegraph.cost import Rates, elements
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import batch_norm, nothing
from qegraph.ops.quant import dequantized, dtype_in, scale_of, stored
from qegraph.ops.table import Emission, Reading, dense, means, reads, reads_first_of, word
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, onednn


@reads(aten.batch_norm.default)
def read_batch_norm(reading: Reading, value: Value) -> Tensor | None:
    x, w, b, mean, variance, training, _, eps, _ = value.args
    return None if training else _batch_norm(reading, x, w, b, mean, variance, eps)


@reads_first_of(aten._native_batch_norm_legit_no_training.default)
def read_native_batch_norm(reading: Reading, value: Value) -> Tensor | None:
    x, w, b, mean, variance, _, eps = value.args
    return _batch_norm(reading, x, w, b, mean, variance, eps)


def _batch_norm(reading: Reading, x: Any, w: Any, b: Any, mean: Any, variance: Any, eps: float) -> Tensor | None:
    if mean is None or variance is None:
        return None
    weight, bias = (nothing() if each is None else reading.tensor(each) for each in (w, b))
    return batch_norm(reading.tensor(x), weight, bias, reading.tensor(mean), reading.tensor(variance), eps)


def _cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.norm_call + rates.traffic(snapshot, node.eclass, *node.children)


def _qcost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    moved = 3 * rates.traffic(snapshot, node.eclass, *node.children)
    return rates.norm_call + moved + elements(snapshot, node.eclass) / rates.normed


@word("BatchNorm", _cost)
def emit_batch_norm(emission: Emission, node: ENode) -> fx.Node:
    *operands, eps = node.args
    return emission.call(
        aten.batch_norm.default, *(emission.node(each.number) for each in operands), False, 0.1, eps, False
    )


@word("QBatchNorm", _qcost)
def emit_qbatch_norm(emission: Emission, node: ENode) -> fx.Node:
    x, qx, *statistics, eps, out = node.args
    operands = [dense(emission, each.number) for each in statistics]
    dtype = dtype_in(out)
    x_node = emission.node(x.number)
    return emission.call(
        onednn.qbatch_norm2d.default, x_node, *scale_of(emission, qx), *operands, eps, *scale_of(emission, out), dtype
    )


@means("BatchNorm")
def normalized(x: Any, w: Any, b: Any, mean: Any, variance: Any, eps: float) -> Any:
    return aten.batch_norm.default(x, w, b, mean, variance, False, 0.1, eps, False)


@means("QBatchNorm")
def normalized_codes(x: Any, qx: Data, w: Any, b: Any, mean: Any, variance: Any, eps: float, out: Data) -> Any:
    return stored(normalized(dequantized(x, qx), w, b, mean, variance, eps), out)
