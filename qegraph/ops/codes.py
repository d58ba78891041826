"""Elementwise kernels on two tensors of codes."""

from __future__ import annotations

from torch import fx

from qegraph.cost import Rates
from qegraph.ops.quant import dtype_in, scale_of
from qegraph.ops.table import Emission, word
from qegraph.snapshot import ENode, Snapshot
from qegraph.torch_names import aten, onednn


def _cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.aten_call + rates.traffic(snapshot, node.eclass, *node.children)


@word("QBinary", _cost)
def emit_qbinary(emission: Emission, node: ENode) -> fx.Node:
    """The kernel pairs elements by their place in memory: both operands are made contiguous."""
    name, x, qx, y, qy, out = node.args
    left, right = (emission.call(aten.contiguous.default, emission.node(each.number)) for each in (x, y))
    target = getattr(onednn, name).tensor
    return emission.call(
        target, left, *scale_of(emission, qx), right, *scale_of(emission, qy), *scale_of(emission, out), dtype_in(out)
    )
