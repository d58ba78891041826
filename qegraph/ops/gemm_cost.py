"""What contractions cost: max(work / peak, bytes / bandwidth), the outputs that are requantized, and the call."""

from __future__ import annotations

import math

from qegraph.cost import Rates, elements
from qegraph.kernels import accepted, name_of
from qegraph.ops.linear4 import weight_only4_cost
from qegraph.snapshot import Data, ENode, Snapshot


def gemm_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """A linear or convolution of floats."""
    kind, x, w, _ = node.args
    call = rates.float_conv_call if kind.name == "Conv" else rates.float_gemm_call
    work = _macs(snapshot, node.eclass, w.number) / _float_macs(snapshot, node, rates)
    if kind.name == "Conv" and kind.args[3] > 1:
        work *= _idle(snapshot, w.number, rates.float_group_channels)
    return call + max(work, rates.kernel_traffic(snapshot, node.eclass, x.number, w.number))


def matmul_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """A product of two floats."""
    x, y = node.args
    depth = (snapshot.shape.get(x.number) or (1,))[-1]
    work = elements(snapshot, node.eclass) * abs(depth) / _float_macs(snapshot, node, rates)
    return rates.float_gemm_call + max(work, rates.kernel_traffic(snapshot, node.eclass, x.number, y.number))


def qgemm_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """An int8 kernel; inf where none accepts the combination."""
    kind, x, qx, w, _, _, other, qo, f, out = node.args
    if kind.name == "WeightOnly4":
        return weight_only4_cost(snapshot, node, rates)
    if kind.name != "Linear4" and (_kind_name(kind), _storage(qo), _storage(out), name_of(f)) not in _ROWS:
        return math.inf
    moved = rates.kernel_traffic(snapshot, node.eclass, x.number, w.number, other.number)
    copied = 0.0
    if qo.name != "Absent" and (kind.name == "Conv" or qo.name != "Real") and _is_kept(snapshot, node, other.number):
        copied = rates.aten_call + 2 * rates.traffic(snapshot, other.number)
    post_op = 0.0 if f.args[0] == "identity" else rates.post_op
    work = _work(snapshot, node, rates)
    return _call(snapshot, node, qx, rates) + max(work, moved) + _stored(snapshot, node, rates) + copied + post_op


def offset_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """Next to nothing, so that it isn't chosen where nothing is gained."""
    return 0.1


def _macs(snapshot: Snapshot, out: int, w: int) -> float:
    shape = snapshot.shape.get(w, ())
    return float(elements(snapshot, out) * math.prod(shape[1:]))


def _float_macs(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    return rates.bfloat16_macs if snapshot.dtype.get(node.eclass) == "bfloat16" else rates.float_macs


def _work(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    kind, x, qx, w, *_ = node.args
    macs = _macs(snapshot, node.eclass, w.number)
    if kind.name == "Linear4":
        return elements(snapshot, node.eclass) * abs(snapshot.shape[x.number][-1]) / rates.linear_macs
    if qx.name == "Float8":
        return elements(snapshot, w.number) / rates.float8_decoded + macs / rates.float8_macs
    if _is_pool(snapshot, w.number):
        if macs == elements(snapshot, node.eclass):
            return macs / rates.scaled
        in_passing = rates.pool_in_passing if _was_float(snapshot, x.number) else 0.0
        return elements(snapshot, x.number) / rates.pooled + in_passing
    if kind.name == "Linear":
        return macs / rates.linear_macs
    full = rates.group_channels if kind.args[3] > 1 else rates.full_channels
    return macs / rates.int8_macs * _idle(snapshot, w.number, full)


def _idle(snapshot: Snapshot, w: int, full: float) -> float:
    """How many times slower than at the full rate, with so many channels: over fewer, lanes stay empty."""
    channels = snapshot.shape.get(w, (1, 0))[1]
    return max(1.0, full / channels) if channels else 1.0


def _is_pool(snapshot: Snapshot, w: int) -> bool:
    return any(snapshot.nodes[index].op == "Filled" for index in snapshot.classes[w])


def _is_kept(snapshot: Snapshot, node: ENode, other: int) -> bool:
    """The residual can't be written, so the kernel gets a copy: it is an input or a result, or is read again later."""
    if other in snapshot.roots or any(snapshot.nodes[k].op in ("Leaf", "Opaque") for k in snapshot.classes[other]):
        return True
    sources = snapshot.sources.get(node.eclass, ())
    return bool(sources) and snapshot.last_read.get(other, 0) > sources[0]


def _was_float(snapshot: Snapshot, codes: int) -> bool:
    """The codes were quantized from a computed value that a product reads too, as in squeeze-and-excitation."""
    made = (snapshot.nodes[index] for index in snapshot.classes[codes])
    return any("Mul" in snapshot.readers.get(each.children[0], ()) for each in made if each.op == "Quantize")


def _call(snapshot: Snapshot, node: ENode, qx: Data, rates: Rates) -> float:
    """What a call costs besides arithmetic. For a zero point a convolution sums up its weights, on every call."""
    kind, _, _, w, *_ = node.args
    if kind.name != "Conv":
        return rates.linear_call
    if qx.name == "PerTensor" and not qx.args[1]:
        return rates.conv_call
    sums = elements(snapshot, w.number) / rates.zero_point_weights
    padded = rates.padded_zero_point if any(kind.args[1]) else 0.0
    return rates.conv_call + rates.zero_point + padded + sums


def _stored(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """Sums are scaled, given their bias and post-op, rounded and stored one by one."""
    per_output = rates.conv_outputs if node.args[0].name == "Conv" else rates.linear_outputs
    return elements(snapshot, node.eclass) / per_output


_ROWS = frozenset(accepted("native"))
"""What torch's operators take is among it; which kernels there are was asked when an e-graph was made."""


def _kind_name(kind: Data) -> str:
    return "linear" if kind.name == "Linear" else f"conv{len(kind.args[0])}d"


def _storage(q: Data) -> str:
    """Float8 is stored by what stores float32."""
    return q.args[0] if q.name == "Real" else {"Absent": "absent", "Float8": "float32"}.get(q.name, "codes")
