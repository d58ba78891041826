"""Contractions: linear and convolution in floats, and the oneDNN int8 kernels they become."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from qegraph.cost import MACHINE, elements, traffic
from qegraph.kernels import PARAMETERS, POST_OPS
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import add, conv, gemm, linear, matmul, nothing, vec
from qegraph.ops.quant import scale_of
from qegraph.ops.table import Emission, Reading, reads, word
from qegraph.packing import PackedConv, PackedLinear
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten, dtype_of, onednn

MAX_REDUCTION = (2**31 - 1) // (255 * 128)
"""Longest sum of products that can't overflow the int32 accumulator."""


def _bias(reading: Reading, b: Any) -> Tensor:
    return nothing() if b is None else reading.tensor(b)


@reads(aten.linear.default)
def read_linear(reading: Reading, value: Value) -> Tensor:
    x, w, b = value.args
    return gemm(linear(), reading.tensor(x), reading.tensor(w), _bias(reading, b))


@reads(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def read_conv(reading: Reading, value: Value) -> Tensor | None:
    x, w, b, stride, padding, dilation, groups = value.args
    return _conv(reading, x, w, b, (stride, padding, dilation), groups)


@reads(aten.convolution.default)
def read_convolution(reading: Reading, value: Value) -> Tensor | None:
    """Transposed convolutions have no int8 kernel and stay opaque (D10)."""
    x, w, b, stride, padding, dilation, transposed, output_padding, groups = value.args
    if transposed or any(output_padding):
        return None
    return _conv(reading, x, w, b, (stride, padding, dilation), groups)


def _conv(reading: Reading, x: Any, w: Any, b: Any, windows: tuple[Any, Any, Any], groups: int) -> Tensor | None:
    rank = len(reading.shape(w))
    if len(reading.shape(x)) != rank:
        return None  # unbatched
    lists = [list(each) * (rank - 2) if len(each) == 1 else list(each) for each in windows]
    stride, padding, dilation = (vec(*each) for each in lists)
    return gemm(conv(stride, padding, dilation, groups), reading.tensor(x), reading.tensor(w), _bias(reading, b))


@reads(aten.mm.default, aten.bmm.default, aten.matmul.default)
def read_matmul(reading: Reading, value: Value) -> Tensor | None:
    x, y = value.args
    x_shape, y_shape = reading.shape(x), reading.shape(y)
    plain = len(y_shape) == 2 and len(x_shape) >= 2
    return matmul(reading.tensor(x), reading.tensor(y)) if plain or x_shape[:-2] == y_shape[:-2] != () else None


@reads(aten.addmm.default)
def read_addmm(reading: Reading, value: Value) -> Tensor | None:
    b, x, y, beta, alpha = value.args
    if (beta, alpha) != (1, 1) or reading.dtype(b) != torch.float32:  # in half precision it rounds once, a sum twice
        return None
    return add(matmul(reading.tensor(x), reading.tensor(y)), reading.tensor(b))


# -- cost --------------------------------------------------------------------------------------------------------------


def _macs(snapshot: Snapshot, out: int, w: int) -> float:
    shape = snapshot.shape.get(w, ())
    return float(elements(snapshot, out) * math.prod(shape[1:]))


def _gemm_cost(snapshot: Snapshot, node: ENode) -> float:
    _, x, w, _ = node.args
    work = _macs(snapshot, node.eclass, w.number) / MACHINE.float_macs
    return MACHINE.float_gemm_call + max(work, traffic(snapshot, node.eclass, x.number, w.number))


def _matmul_cost(snapshot: Snapshot, node: ENode) -> float:
    x, y = node.args
    depth = (snapshot.shape.get(x.number) or (1,))[-1]
    work = elements(snapshot, node.eclass) * abs(depth) / MACHINE.float_macs
    return MACHINE.float_gemm_call + max(work, traffic(snapshot, node.eclass, x.number, y.number))


def _qgemm_cost(snapshot: Snapshot, node: ENode) -> float:
    kind, x, _, w, _, _, other, _, f, out = node.args
    out_bytes = elements(snapshot, node.eclass) * (1 if out.name == "PerTensor" else 4) / MACHINE.bandwidth
    work = _macs(snapshot, node.eclass, w.number) / MACHINE.int8_macs
    if kind.name == "Conv" and kind.args[3] > 1:
        channels = snapshot.shape.get(w.number, (1, MACHINE.group_channels))[1]
        work *= max(1.0, MACHINE.group_channels / channels)
    moved = out_bytes + traffic(snapshot, x.number, w.number, other.number)
    return MACHINE.onednn_call + max(work, moved) + (MACHINE.post_op if f.args[0] != "identity" else 0.0)


# -- emission ----------------------------------------------------------------------------------------------------------


@word("Gemm", _gemm_cost)
def emit_gemm(emission: Emission, node: ENode) -> fx.Node:
    kind, x, w, b = node.args
    operands = [emission.node(each.number) for each in (x, w, b)]
    if kind.name == "Linear":
        return emission.call(aten.linear.default, *operands)
    stride, padding, dilation, groups = kind.args
    target = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)[len(stride) - 1]
    return emission.call(target, *operands, list(stride), list(padding), list(dilation), groups)


@word("Matmul", _matmul_cost)
def emit_matmul(emission: Emission, node: ENode) -> fx.Node:
    x, y = node.args
    return emission.call(aten.matmul.default, emission.node(x.number), emission.node(y.number))


@word("QGemm", _qgemm_cost)
def emit_qgemm(emission: Emission, node: ENode) -> fx.Node:
    kind, x, qx, w, qw, b, _, qo, f, out = node.args
    weight = emission.constant(w.number)
    scales = _scales(emission, qw)
    packed = _packed(emission, node, weight, scales)
    w_scale = emission.buffer("w_scale", scales)
    out_scale, out_zero = scale_of(out)
    out_dtype = dtype_of(out.args[0] if out.name == "Real" else out.args[4])
    head: list[Any] = [emission.node(x.number), *scale_of(qx), packed, w_scale, None]
    windows = [] if kind.name == "Linear" else [*map(list, kind.args[:3]), kind.args[3]]
    tail: list[Any] = [out_scale, out_zero, out_dtype]
    post_op = _post_op(f)
    bias = emission.node(b.number)
    if qo.name == "Absent":
        target = onednn.qlinear_pointwise.default if kind.name == "Linear" else onednn.qconv_pointwise.default
        return emission.call(target, *head, bias, *windows, *tail, *post_op)
    binary, residual = _residual(emission, node)
    residual_scale = scale_of(qo)
    target = onednn.qlinear_pointwise.binary if kind.name == "Linear" else onednn.qconv2d_pointwise.binary
    return emission.call(target, *head, residual, bias, *windows, *tail, *residual_scale, binary, 1.0, *post_op)


def _post_op(f: Data) -> list[Any]:
    name, *parameters = f.args
    kernel_name, algorithm = POST_OPS[name]
    return [kernel_name, parameters[: PARAMETERS.get(name, 0)], algorithm]


def _scales(emission: Emission, qw: Data) -> torch.Tensor:
    if qw.name == "PerTensor":
        return torch.tensor([qw.args[0]], dtype=torch.float32)
    return emission.constant(qw.args[0].number)


def _packed(emission: Emission, node: ENode, weight: torch.Tensor, scales: torch.Tensor) -> fx.Node:
    """Packed for the shape and zero point that will run: another one would be repacked on every call."""
    kind, x, qx, w, *_ = node.args
    shape = emission.snapshot.shape.get(x.number, ())
    known = list(shape) if shape and all(d > 0 for d in shape) else None
    if kind.name == "Linear":
        return emission.packed(lambda: PackedLinear(weight, known), ("linear", w.number, shape))
    stride, padding, dilation, groups = kind.args
    scale, zero_point = scale_of(qx)

    def make() -> PackedConv:
        windows = (list(stride), list(padding), list(dilation))
        return PackedConv(weight, scales, scale, zero_point, windows, groups, known)

    return emission.packed(make, ("conv", w.number, kind, scale, zero_point, shape))


def _residual(emission: Emission, node: ENode) -> tuple[str, fx.Node]:
    """In place ("sum") or not ("add"): decided here, by who else reads the operand, never by an equality.

    Either way the kernel reads the operand as if it were dense, in the output's own layout, whatever its strides.
    "sum" writes the operand: it must be scratch. "add" exists for linear, with a float operand.
    """
    kind, *_, other, qo, _, _ = node.args
    residual = emission.node(other.number)
    is_linear = kind.name == "Linear"
    layout = {"memory_format": torch.contiguous_format if is_linear else torch.channels_last}
    binary = "add" if is_linear and qo.name == "Real" else "sum"
    if binary == "sum" and not emission.scratch(other.number):
        return binary, emission.call((aten.clone.default, layout), residual)
    if emission.dense(other.number, channels_last=not is_linear):
        return binary, residual
    return binary, emission.call((aten.contiguous.default, layout), residual)
