"""Elementwise kernels on two tensors of codes."""

from __future__ import annotations

from typing import Any

from torch import fx

from qegraph.ops.quant import dequantized, dtype_in, quantized, scale_of
from qegraph.ops.table import Emission, means, one_pass, word
from qegraph.snapshot import Data, ENode
from qegraph.torch_names import aten, onednn


@word("QBinary", one_pass)
def emit_qbinary(emission: Emission, node: ENode) -> fx.Node:
    """The kernel pairs elements by their place in memory: both operands are made contiguous."""
    name, x, qx, y, qy, out = node.args
    left, right = (emission.call(aten.contiguous.default, emission.node(each.number)) for each in (x, y))
    target = getattr(onednn, name).tensor
    return emission.call(
        target, left, *scale_of(emission, qx), right, *scale_of(emission, qy), *scale_of(emission, out), dtype_in(out)
    )


@means("QBinary")
def combined(name: str, x: Any, qx: Data, y: Any, qy: Data, out: Data) -> Any:
    left, right = dequantized(x, qx), dequantized(y, qy)
    real = left * right if name == "qmul" else left + right
    return quantized(real.relu() if name == "qadd_relu" else real, out)
