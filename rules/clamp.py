"""Clamps of codes: rounding is monotone, so bounds may be rounded instead of what they bound."""

import math

from qegraph.lang import (
    Integer,
    Number,
    QParams,
    Tensor,
    Text,
    clamp,
    clamp_codes,
    dequantize,
    is_code,
    per_tensor,
    positive_scale,
    quantize,
    relu,
    rewrite,
    rule,
    spans_dtype,
    stores_bytes,
    unary,
)
from qegraph.lang.rule import Rewrite


@rule
def quantize_through_clamp(x: Tensor, a: Number, b: Number, q: QParams) -> Rewrite:
    """quantize(clamp(x, a, b), q) = clamp(quantize(x, q), quantize(a, q), quantize(b, q))"""
    return (
        rewrite(quantize(unary(clamp(a, b), x), q))
        .to(unary(clamp_codes(a, b, q), quantize(x, q)))
        .when(stores_bytes(q), positive_scale(q))
    )


@rule
def relu_of_codes(x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """relu(dequantize(x, q)) = dequantize(max(x, zero point), q)"""
    q = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(unary(relu(), dequantize(x, q, "float32")))
        .to(dequantize(unary(clamp_codes(0.0, math.inf, q), x), q, "float32"))
        .when(positive_scale(q), spans_dtype(q), is_code(z, lo, hi))
    )
