"""Contractions: linear and convolution in floats, and the oneDNN int8 kernels they become."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.copies import scratch
from qegraph.kernels import PARAMETERS, POST_OPS, name_of
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import add, conv, gemm, linear, matmul, move, nothing, permute, vec, view
from qegraph.ops.elementwise import applied
from qegraph.ops.gemm_cost import gemm_cost, matmul_cost, offset_cost, qgemm_cost
from qegraph.ops.linear4 import emit_linear4, emit_weight_only4
from qegraph.ops.native import emit_native, is_native
from qegraph.ops.quant import dequantized, dtype_in, scale_of, stored
from qegraph.ops.table import Emission, Reading, dense, emit_constant, means, reads, word
from qegraph.packing import PackedConv, PackedLinear
from qegraph.program import Value
from qegraph.snapshot import Data, ENode
from qegraph.torch_names import aten, onednn


def _bias(reading: Reading, b: Any) -> Tensor:
    return nothing() if b is None else reading.tensor(b)


def _agree(reading: Reading, *operands: Any) -> bool:
    """They have one dtype. Some operators don't ask this of what is empty: what those make of it is theirs to say."""
    return len({reading.dtype(each) for each in operands if each is not None}) == 1


@reads(aten.linear.default)
def read_linear(reading: Reading, value: Value) -> Tensor | None:
    x, w, b = value.args
    if not _agree(reading, x, w, b):
        return None
    return gemm(linear(), reading.tensor(x), reading.tensor(w), _bias(reading, b))


@reads(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def read_conv(reading: Reading, value: Value) -> Tensor | None:
    x, w, b, stride, padding, dilation, groups = value.args
    return _conv(reading, value, x, w, b, (stride, padding, dilation), groups)


@reads(aten.convolution.default)
def read_convolution(reading: Reading, value: Value) -> Tensor | None:
    """Transposed convolutions have no int8 kernel and stay opaque (D10)."""
    x, w, b, stride, padding, dilation, transposed, output_padding, groups = value.args
    if transposed or any(output_padding):
        return None
    return _conv(reading, value, x, w, b, (stride, padding, dilation), groups)


@reads(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding)
def read_conv_with_named_padding(reading: Reading, value: Value) -> Tensor | None:
    """ "same" pads d (k - 1) in all, which is the same on both sides only if it is even."""
    x, w, b, stride, name, dilation, groups = value.args
    kernel = reading.shape(w)[2:]
    spread = list(dilation) * len(kernel) if len(dilation) == 1 else list(dilation)
    total = [d * (k - 1) if name == "same" else 0 for d, k in zip(spread, kernel, strict=True)]
    if any(each % 2 for each in total) or min(kernel) < 1:
        return None
    return _conv(reading, value, x, w, b, (stride, [each // 2 for each in total], spread), groups)


def _conv(
    reading: Reading, value: Value, x: Any, w: Any, b: Any, windows: tuple[Any, Any, Any], groups: int
) -> Tensor | None:
    """An operand without a batch dim is a batch of one. The dilation of a window of 1 is 1: others confuse oneDNN."""
    if not _agree(reading, x, w, b):
        return None
    shape, kernel = reading.shape(x), reading.shape(w)[2:]
    rank = len(kernel) + 2
    strides, paddings, steps = (list(each) * len(kernel) if len(each) == 1 else list(each) for each in windows)
    steps = [1 if k == 1 else step for k, step in zip(kernel, steps, strict=True)]
    stride, padding, dilation = vec(*strides), vec(*paddings), vec(*steps)
    kind, weight, bias = conv(stride, padding, dilation, groups), reading.tensor(w), _bias(reading, b)
    if len(shape) == rank:
        return gemm(kind, reading.tensor(x), weight, bias)
    batch = move(view(vec(1, *shape)), reading.tensor(x))
    return move(view(vec(*reading.dims(value.fake.shape))), gemm(kind, batch, weight, bias))


@reads(aten.mm.default, aten.bmm.default, aten.matmul.default)
def read_matmul(reading: Reading, value: Value) -> Tensor | None:
    x, y = value.args
    if not _agree(reading, x, y):
        return None
    x_shape, y_shape = reading.shape(x), reading.shape(y)
    plain = len(y_shape) == 2 and len(x_shape) >= 2
    return matmul(reading.tensor(x), reading.tensor(y)) if plain or x_shape[:-2] == y_shape[:-2] != () else None


@reads(aten.addmm.default)
def read_addmm(reading: Reading, value: Value) -> Tensor | None:
    """In half precision it rounds once, where a sum would twice: so it is a linear, if it has a bias of one's form."""
    b, x, y, beta, alpha = value.args
    if (beta, alpha) != (1, 1) or not _agree(reading, b, x, y):
        return None
    if reading.dtype(b) == torch.float32:
        return add(matmul(reading.tensor(x), reading.tensor(y)), reading.tensor(b))
    if reading.shape(b) != reading.shape(y)[1:]:
        return None
    return gemm(linear(), reading.tensor(x), move(permute(vec(1, 0)), reading.tensor(y)), reading.tensor(b))


# -- emission ----------------------------------------------------------------------------------------------------------


@word("Gemm", gemm_cost)
def emit_gemm(emission: Emission, node: ENode) -> fx.Node:
    kind, x, w, b = node.args
    operands = [emission.node(each.number) for each in (x, w, b)]
    if kind.name == "Linear":
        return emission.call(aten.linear.default, *operands)
    stride, padding, dilation, groups = kind.args
    target = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)[len(stride) - 1]
    return emission.call(target, *operands, list(stride), list(padding), list(dilation), groups)


@word("Matmul", matmul_cost)
def emit_matmul(emission: Emission, node: ENode) -> fx.Node:
    x, y = node.args
    return emission.call(aten.matmul.default, emission.node(x.number), emission.node(y.number))


@word("QGemm", qgemm_cost)
def emit_qgemm(emission: Emission, node: ENode) -> fx.Node:
    kind, x, qx, w, qw, b, _, qo, f, out = node.args
    if kind.name == "Linear4":
        return emit_linear4(emission, node)
    if kind.name == "WeightOnly4":
        return emit_weight_only4(emission, node)
    weight = emission.constant(w.number)
    scales = _scales(emission, qw)
    if emission.kernels == "native" and is_native(emission.snapshot, node):
        return emit_native(emission, node, weight, scales)
    if kind.name != "Linear" and len(kind.args[0]) == 1:
        return _emit_conv1d(emission, node, weight, scales)
    packed = _packed(emission, node, weight, scales)
    w_scale = emission.buffer("w_scale", scales.contiguous())
    out_dtype = dtype_in(out)
    head: list[Any] = [emission.node(x.number), *scale_of(emission, qx), packed, w_scale, None]
    windows = [] if kind.name == "Linear" else [*map(list, kind.args[:3]), kind.args[3]]
    tail: list[Any] = [*scale_of(emission, out), out_dtype]
    post_op = _post_op(f)
    bias = dense(emission, b.number)
    is_dynamic = qx.name == "Dynamic"
    if qo.name == "Absent":
        packet = onednn.qlinear_pointwise if kind.name == "Linear" else onednn.qconv_pointwise
        target = packet.tensor if is_dynamic else packet.default
        return emission.call(target, *head, bias, *windows, *tail, *post_op)
    binary, residual = _residual(emission, node)
    residual_scale = scale_of(emission, qo)
    packet = onednn.qlinear_pointwise if kind.name == "Linear" else onednn.qconv2d_pointwise
    target = packet.binary_tensor if is_dynamic else packet.binary
    return emission.call(target, *head, residual, bias, *windows, *tail, *residual_scale, binary, 1.0, *post_op)


def _emit_conv1d(emission: Emission, node: ENode, weight: torch.Tensor, scales: torch.Tensor) -> fx.Node:
    """As a convolution of images one pixel high. The kernel takes rank 3, too, but packs the weight as such an image's,
    and torch's fake kernel then takes the 1 for the window: compilers, and whoever captures the result, are told wrong
    sizes. There is no 1-d kernel with a residual.
    """
    kind, x, qx, w, _, b, *_, f, out = node.args
    shape = emission.snapshot.shape[x.number]
    image = (*shape[:2], 1, *shape[2:])
    (stride,), (padding,), (dilation,), groups = kind.args
    windows = ([1, stride], [0, padding], [1, dilation])
    scale, zero_point = scale_of(emission, qx) if qx.name == "PerTensor" else _SOME_PARAMS
    known = list(image) if all(d > 0 for d in image) else None
    packed = emission.packed(
        lambda: PackedConv(weight.unsqueeze(2), scales.numel(), scale, zero_point, windows, groups, known),
        ("conv", w.number, kind, scale, zero_point, shape),
    )
    target = onednn.qconv_pointwise.tensor if qx.name == "Dynamic" else onednn.qconv_pointwise.default
    product = emission.call(
        target,
        emission.call(aten.unsqueeze.default, emission.node(x.number), 2),
        *scale_of(emission, qx),
        *(packed, emission.buffer("w_scale", scales.contiguous()), None, dense(emission, b.number)),
        *(*windows, groups, *scale_of(emission, out), dtype_in(out), *_post_op(f)),
    )
    return emission.call(aten.squeeze.dim, product, 2)


word("OffsetBias", offset_cost, fresh=False)(emit_constant)


def _post_op(f: Data) -> list[Any]:
    name, parameters = name_of(f), f.args[1:]
    kernel_name, algorithm = POST_OPS[name]
    return [kernel_name, parameters[: PARAMETERS.get(name, 0)], algorithm]


def _scales(emission: Emission, qw: Data) -> torch.Tensor:
    if qw.name == "Scaled":
        inner, factor = qw.args
        return _scales(emission, inner) * emission.constant(factor.number).flatten()
    if qw.name in ("PerTensor", "Float8"):
        return torch.tensor([qw.args[0]], dtype=torch.float32)
    if qw.name == "JoinedParams":
        first, second, n, m = qw.args
        return torch.cat([_scales(emission, first).expand(n), _scales(emission, second).expand(m)])
    if qw.name == "CutParams":
        inner, start, length = qw.args
        scales = _scales(emission, inner)
        return scales if scales.numel() == 1 else scales.narrow(0, start, length)
    return emission.constant(qw.args[0].number)


_SOME_PARAMS = (1.0, 1)
"""What convolutions are packed for when the parameters are computed: only whether the zero point is 0 plays a part."""


def _packed(emission: Emission, node: ENode, weight: torch.Tensor, scales: torch.Tensor) -> fx.Node:
    """Packed for the shape and zero point that will run: another one would be repacked on every call."""
    kind, x, qx, w, *_ = node.args
    shape = emission.snapshot.shape.get(x.number, ())
    known = list(shape) if shape and all(d > 0 for d in shape) else None
    if kind.name == "Linear":
        return emission.packed(lambda: PackedLinear(weight.contiguous(), known), ("linear", w.number, shape))
    stride, padding, dilation, groups = kind.args
    scale, zero_point = scale_of(emission, qx) if qx.name == "PerTensor" else _SOME_PARAMS

    def make() -> PackedConv:
        windows = (list(stride), list(padding), list(dilation))
        return PackedConv(weight, scales.numel(), scale, zero_point, windows, groups, known)

    return emission.packed(make, ("conv", w.number, kind, scale, zero_point, shape))


def _residual(emission: Emission, node: ENode) -> tuple[str, fx.Node]:
    """In place ("sum") or not ("add"): decided here, by who else reads the operand, never by an equality.

    Either way the kernel reads the operand as if it were dense, in the output's own layout, whatever its strides.
    "sum" writes the operand: it must be scratch, and no view. "add" exists for linear, with a float operand.
    """
    kind, *_, other, qo, _, _ = node.args
    residual = emission.node(other.number)
    is_linear = kind.name == "Linear"
    is_dense = emission.dense(other.number, channels_last=not is_linear)
    if is_linear and qo.name == "Real":
        contiguous = (aten.contiguous.default, {"memory_format": torch.contiguous_format})
        return "add", residual if is_dense else emission.call(contiguous, residual)
    is_owned = is_dense and emission.scratch(other.number)
    rank = len(emission.snapshot.shape.get(other.number, ()))
    if is_owned and (not is_linear or rank == 2):
        return "sum", residual
    return "sum", emission.call(scratch, residual, not is_linear, is_owned)


# -- meaning -----------------------------------------------------------------------------------------------------------


@means("Gemm")
def contracted(kind: Data, x: Any, w: Any, b: Any) -> Any:
    if kind.name == "Linear":
        return aten.linear.default(x, w, b)
    stride, padding, dilation, groups = kind.args
    target = (aten.conv1d, aten.conv2d, aten.conv3d)[len(stride) - 1]
    return target.default(x, w, b, list(stride), list(padding), list(dilation), groups)


means("Matmul")(aten.matmul.default)


@means("QGemm")
def contracted_codes(
    kind: Data, x: Any, qx: Data, w: Any, qw: Data, b: Any, other: Any, qo: Data, f: Data, out: Data
) -> Any:
    """What the kernel is equal to: the unfused graph."""
    bias = None if b is None else b.to(torch.float32)
    product = contracted(kind, dequantized(x, qx), dequantized(w, qw), bias)
    if qo.name != "Absent":
        product = product + dequantized(other, qo)
    return stored(applied(f, product), out)


@means("OffsetBias")
def without_offset(b: Any, w: Any, qw: Data, scale: float, zero_point: int) -> Any:
    """In float64: the sum of codes can be large against the bias."""
    codes = w.flatten(1)
    scales = dequantized(torch.ones_like(codes[:, :1]), qw)[:, 0].to(torch.float64)
    offset = scale * zero_point * scales * codes.sum(1, dtype=torch.int64).to(torch.float64)
    return (-offset if b is None else b - offset).to(torch.float32)
