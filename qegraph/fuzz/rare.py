"""What models have seldom, and rules know all the same: half precision, stored matrices, factors known at run time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qegraph.coverage.parts import QP
from qegraph.torch_names import aten

from .borders import dequantize, quantize, quantized_again, read, weight
from .draft import Draft, Value

_HALVES = (torch.bfloat16, torch.float16)


def _linear(d: Draft, *ranks: int) -> Value:
    x = read(d, *ranks)
    n = d.rng.choice((4, 8))
    bias = d.constant(d.normal(n)) if d.chance(0.5) else None
    return d.call(aten.linear.default, x, weight(d, n, x.shape[-1]), bias)


def _half_layer(d: Draft) -> Value:
    """A product that is rounded to half precision, and what follows it there; perhaps back again."""
    half = d.rng.choice(_HALVES)
    y = d.call(aten.to.dtype, _linear(d, 2, 3), half)
    how = d.rng.choice(("post-op", "residual", "mixed", "factor", "move", "none"))
    if how == "post-op":
        y = d.call(d.rng.choice((aten.relu.default, aten.gelu.default)), y)
    elif how == "residual":
        y = d.call(aten.add.Tensor, y, d.constant(d.normal(*y.shape).to(half)))
    elif how == "mixed":
        y = d.call(aten.add.Tensor, _linear(d, y.rank), d.constant(d.normal(y.shape[-1]).to(half)))
    elif how == "factor":
        y = d.call(aten.mul.Tensor, y, d.constant(d.normal(y.shape[-1]).to(half)))
    elif how == "move":
        y = d.call(aten.transpose.int, y, 0, 1)
    return d.call(aten.to.dtype, y, torch.float32) if d.chance(0.6) else y


def _stored_matrix(d: Draft) -> Value:
    """A constant on the right of a matmul, as it is stored: quantized, or cast; for each of a batch, or for all."""
    x = read(d, 2, 3)
    k, n = x.shape[-1], d.rng.choice((4, 8))
    how = d.rng.choice(("quantized", "cast", "batch"))
    if how == "quantized":
        codes = torch.randint(-127, 128, (k, n), dtype=torch.int8, generator=d.generator)
        return d.call(aten.matmul.default, x, dequantize(d, Value(d.constant(codes).node, codes, _of_weights())))
    if how == "cast" or x.rank != 3:
        codes = torch.randint(-9, 10, (k, n), dtype=torch.int8, generator=d.generator)
        return d.call(aten.matmul.default, x, d.call(aten.to.dtype, d.constant(codes), torch.float32))
    matrix = d.call(aten.permute.default, weight(d, n, k), [1, 0])
    every = d.call(aten.expand.default, d.call(aten.unsqueeze.default, matrix, 0), [x.shape[0], k, n])
    return d.call(aten.bmm.default, x, every)


def _of_weights() -> QP:
    return QP(0.01, 0, -128, 127, torch.int8)


def _half_weight(d: Draft) -> Value:
    """A linear whose weight is kept as float16."""
    x = d.floats(2, 3)
    w = d.call(aten.to.dtype, d.constant(d.normal(8, x.shape[-1], scale=0.2).half()), torch.float32)
    y = d.call(aten.linear.default, x, w, d.constant(d.normal(8)) if d.chance(0.5) else None)
    return d.call(aten.relu.default, y) if d.chance(0.6) else y


def _joined_weight(d: Draft) -> Value:
    """A linear over two cast matrices, one below the other."""
    x = d.floats(2, 3)
    parts = [torch.randint(-9, 10, (n, x.shape[-1]), dtype=torch.int8, generator=d.generator) for n in (4, 2)]
    cast = [d.call(aten.to.dtype, d.constant(each), torch.float32) for each in parts]
    return d.call(aten.linear.default, x, d.call(aten.cat.default, cast, 0))


def _viewed_weight(d: Draft) -> Value:
    """A convolution of one pixel whose weight is a matrix."""
    x = read(d, 4)
    w = d.call(aten.view.default, weight(d, 4, x.shape[1]), [4, x.shape[1], 1, 1])
    return d.call(aten.conv2d.default, x, w, None, [1, 1], [0, 0], [1, 1], 1)


def _factors(d: Draft) -> Value:
    """A linear of plain codes, times what is known at run time, a number or one for each row, and times constants."""
    x = d.floats(2, 3)
    codes = d.keep(quantize(d, x, QP(1.0, d.rng.choice((0, 3)), -128, 127, torch.int8)))
    y = d.call(aten.linear.default, dequantize(d, codes), weight(d, 8, x.shape[-1]))
    size = d.call(aten.abs.default, x)
    how = d.rng.choice(("number", "rows", "broadcast"))
    if how == "number":
        largest = d.call(aten.reshape.default, d.call(aten.amax.default, size), [1])
        y = d.call(aten.mul.Tensor, y, largest)
    else:
        largest = d.call(aten.amax.default, size, [-1], True)
        if how == "broadcast":
            largest = d.call(aten.expand.default, largest, list(y.shape))
        y = d.call(aten.mul.Tensor, y, largest)
    return d.call(aten.mul.Tensor, y, d.constant(d.normal(8).abs() + 0.5)) if d.chance(0.7) else y


def _integer_product(d: Draft) -> Value:
    """A product of int8 codes as integers, then floats with their scales."""
    codes = d.keep(quantize(d, d.floats(2), QP(0.05, 0, -128, 127, torch.int8)))
    matrix = torch.randint(-127, 128, (codes.shape[1], 8), dtype=torch.int8, generator=d.generator)
    y = d.call(aten.to.dtype, d.call(aten._int_mm.default, codes, d.constant(matrix)), torch.float32)
    return d.call(aten.mul.Tensor, y, d.constant(d.normal(8).abs() * 0.001 + 0.0005))


def _viewed_bias(d: Draft) -> Value:
    """A linear by rows, put back into shape before its bias is added."""
    x = read(d, 3)
    rows = d.call(aten.view.default, x, [x.shape[0] * x.shape[1], x.shape[2]])
    y = d.call(aten.mm.default, rows, d.call(aten.t.default, weight(d, 8, x.shape[2])))
    y = d.call(aten.view.default, y, [x.shape[0], x.shape[1], 8])
    return d.call(aten.add.Tensor, y, d.constant(d.normal(8)))


def _tanh_gate(d: Draft) -> Value:
    """x (tanh(sqrt(2/pi) (x + 0.044715 x^3)) + 1) / 2"""
    x = d.floats()
    cube = d.call(aten.mul.Tensor, d.call(aten.mul.Tensor, x, x), x)
    inner = d.call(aten.add.Tensor, x, d.call(aten.mul.Tensor, cube, 0.044715))
    tanh = d.call(aten.tanh.default, d.call(aten.mul.Tensor, inner, 0.7978845608028654))
    return d.call(aten.mul.Tensor, d.call(aten.mul.Tensor, x, d.call(aten.add.Tensor, tanh, 1.0)), 0.5)


def _pooled_codes(d: Draft) -> Value:
    """The maximum over windows of int8 codes, and of a product's."""
    x = d.keep(quantize(d, d.floats(4), QP(0.03, 0, -128, 127, torch.int8)))
    return dequantize(d, d.keep(d.call(aten.max_pool2d.default, x, [2, 2], [1, 1], [0, 0], qp=x.qp)))


def _norm_of_codes(d: Draft) -> Value:
    """Batch norm of dequantized values, and a relu that saturating may do."""
    x = quantized_again(d, d.floats(4))
    n = x.shape[1]
    gain, shift, mean = (d.constant(d.normal(n)) for _ in range(3))
    variance = d.constant(torch.rand(n, generator=d.generator) + 0.3)
    y = d.call(aten.batch_norm.default, x, gain, shift, mean, variance, False, 0.1, 1e-5, False)
    return quantized_again(d, d.call(aten.relu.default, y))


OPS: dict[str, Callable[[Draft], Value]] = {
    "half-layer": _half_layer,
    "stored-matrix": _stored_matrix,
    "half-weight": _half_weight,
    "joined-weight": _joined_weight,
    "viewed-weight": _viewed_weight,
    "factors": _factors,
    "integer-product": _integer_product,
    "viewed-bias": _viewed_bias,
    "tanh-gate": _tanh_gate,
    "pooled-codes": _pooled_codes,
    "norm-of-codes": _norm_of_codes,
}
