"""Batch normalization of dequantized values, where it can't be folded into a contraction before it."""

from qegraph.lang import (
    Number,
    QParams,
    Tensor,
    batch_norm,
    dequantize,
    kernel_normalizes,
    kernel_stores_norm,
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
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")


@rule
def batch_norm_int8(x: Tensor, qx: QParams, w: Tensor, b: Tensor, m: Tensor, v: Tensor, e: Number) -> Rewrite:
    """batch_norm(dq(x)) = qbatch_norm(x) : one kernel reads the codes"""
    return (
        rewrite(batch_norm(dequantize(x, qx, "float32"), w, b, m, v, e))
        .to(qbatch_norm(x, qx, w, b, m, v, e, FLOAT))
        .when(*kernel_normalizes(x, qx, w, b, m, v))
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
