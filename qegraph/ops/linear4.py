"""torchao's linear over 4-bit weights and dynamically quantized activations: read so that several run as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import absent, blocks4, dynamic, identity, linear4, nothing, qgemm, real
from qegraph.ops.table import Emission, Reading, reads_named
from qegraph.program import Value
from qegraph.snapshot import Data, ENode
from qegraph.torch_names import dtype_name, dtype_of


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
