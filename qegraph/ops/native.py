"""An int8 linear or convolution as a call of an operator of our own (`qegraph.native`)."""

from __future__ import annotations

import torch
from torch import fx

from qegraph.kernels import PARAMETERS, name_of
from qegraph.ops.quant import dtype_in, scale_of
from qegraph.ops.table import Emission, dense
from qegraph.snapshot import ENode, Snapshot

_CODES = ("uint8", "int8")
_STORED = (*_CODES, "float32", "bfloat16")
"""What every oneDNN 3 reads and stores on every CPU: not float16, which is for some, nor float8, which is for later."""


def is_native(snapshot: Snapshot, node: ENode) -> bool:
    """Whether there is one for this e-node."""
    x, other = node.args[1].number, node.args[6].number
    added = snapshot.dtype.get(other)  # none of the operand that isn't there
    return snapshot.dtype[x] in _CODES and {snapshot.dtype[node.eclass], added} <= {*_STORED, None}


def emit_native(emission: Emission, node: ENode, weight: torch.Tensor, scales: torch.Tensor) -> fx.Node:
    """The weight stays plain, and the residual is only read: no memory to be copied or owned."""
    kind, x, qx, _, _, b, other, qo, f, out = node.args
    operator = f"{'qlinear' if kind.name == 'Linear' else 'qconv'}{'_dynamic' if qx.name == 'Dynamic' else ''}"
    residual = None if qo.name == "Absent" else emission.node(other.number)
    windows = [] if kind.name == "Linear" else [*map(list, kind.args[:3]), kind.args[3]]
    name = name_of(f)
    return emission.call(
        getattr(torch.ops.qegraph, operator).default,
        *(emission.node(x.number), *scale_of(emission, qx)),
        *(emission.buffer("weight", weight.contiguous()), emission.buffer("w_scale", scales.contiguous())),
        *(dense(emission, b.number), residual, *scale_of(emission, qo)),
        *windows,
        *(*scale_of(emission, out), dtype_in(out), name, list(f.args[1:][: PARAMETERS.get(name, 0)])),
    )
