"""Batch normalization of dequantized values, where it can't be folded into a contraction before it."""

from qegraph.lang import (
    Integer,
    Number,
    QParams,
    Tensor,
    batch_norm,
    channels_are,
    conv,
    dequantize,
    filled,
    gemm,
    kernel_normalizes,
    kernel_stores_norm,
    nothing,
    per_tensor,
    positive_scale,
    qbatch_norm,
    quantize,
    real,
    relu,
    rewrite,
    rule,
    saturates_at_zero,
    spans_dtype,
    unary,
    vec,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")
UNIT = per_tensor(1.0, 0, -128, 127, "int8")


@rule
def batch_norm_int8(x: Tensor, qx: QParams, w: Tensor, b: Tensor, m: Tensor, v: Tensor, e: Number) -> Rewrite:
    """batch_norm(dq(x)) = qbatch_norm(x) : one kernel reads the codes"""
    return (
        rewrite(batch_norm(dequantize(x, qx, "float32"), w, b, m, v, e))
        .to(qbatch_norm(x, qx, w, b, m, v, e, FLOAT))
        .when(*kernel_normalizes(x, qx, w, b, m, v))
    )


@rule
def batch_norm_is_depthwise(
    x: Tensor, qx: QParams, g: Tensor, h: Tensor, m: Tensor, v: Tensor, e: Number, c: Integer
) -> Rewrite:
    """batch_norm(dq(x)) = batch_norm(depthwise convolution of dq(x) with ones), an int8 one that takes the norm in"""
    y, ones = dequantize(x, qx, "float32"), dequantize(filled(vec(c, 1, 1, 1), 1, "int8"), UNIT, "float32")
    depthwise = conv(vec(1, 1), vec(0, 0), vec(1, 1), c)
    return (
        rewrite(batch_norm(y, g, h, m, v, e))
        .to(batch_norm(gemm(depthwise, y, ones, nothing()), g, h, m, v, e))
        .when(channels_are(x, c))
    )


@rule
def requantize_batch_norm(
    x: Tensor, qx: QParams, w: Tensor, b: Tensor, m: Tensor, v: Tensor, e: Number, q: QParams
) -> Rewrite:
    """quantize(qbatch_norm(...), q) = qbatch_norm(... -> q) : the kernel rounds before it adds the zero point too"""
    return (
        rewrite(quantize(qbatch_norm(x, qx, w, b, m, v, e, FLOAT), q))
        .to(qbatch_norm(x, qx, w, b, m, v, e, q))
        .when(spans_dtype(q), positive_scale(q), kernel_stores_norm(q))
    )


@rule
def relu_of_batch_norm(
    x: Tensor, qx: QParams, w: Tensor, b: Tensor, m: Tensor, v: Tensor, e: Number, q: QParams
) -> Rewrite:
    """quantize(relu(y), q) = quantize(y, q) where the lowest code is 0: saturating is the relu"""
    y = qbatch_norm(x, qx, w, b, m, v, e, FLOAT)
    return rewrite(quantize(unary(relu(), y), q)).to(quantize(y, q)).when(saturates_at_zero(q), positive_scale(q))
