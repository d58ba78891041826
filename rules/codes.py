"""Laws of the codes themselves: where quantize and dequantize meet, and what commutes with them."""

from qegraph.lang import (
    Dims,
    Integer,
    Move,
    Number,
    QParams,
    Tensor,
    Text,
    absorbs,
    cat,
    clamp,
    codes_of,
    dequantize,
    is_code,
    is_factor,
    max_pool,
    move,
    mul,
    narrower_than_dtype,
    pad,
    per_tensor,
    per_tensor_params,
    positive_scale,
    quantize,
    rewrite,
    rule,
    scalar,
    spans_dtype,
    stores_bytes,
    unary,
)
from qegraph.lang.rule import Rewrite


@rule
def codes_survive(x: Tensor, q: QParams) -> Rewrite:
    """quantize(dequantize(x, q), q) = x"""
    return (
        rewrite(quantize(dequantize(x, q, "float32"), q))
        .to(x)
        .when(per_tensor_params(q), positive_scale(q), spans_dtype(q))
    )


@rule
def narrow_range(
    x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text, l0: Integer, h0: Integer
) -> Rewrite:
    """quantize(x, lo..hi) = quantize(clamp(x, (lo - z) s, (hi - z) s), full) = clamp(quantize(x, full), lo, hi)"""
    q, full = per_tensor(s, z, lo, hi, d), per_tensor(s, z, l0, h0, d)
    low, high = (Number.of("*", s, Number.of("to-f64", Integer.of("-", code, z))) for code in (lo, hi))
    codes = clamp(Number.of("to-f64", lo), Number.of("to-f64", hi))
    return (
        rewrite(quantize(x, q))
        .to(quantize(unary(clamp(low, high), x), full))
        .and_(quantize(x, q))
        .to(unary(codes, quantize(x, full)))
        .when(narrower_than_dtype(lo, hi, d, l0, h0), stores_bytes(q), positive_scale(q))
    )


@rule
def quantize_through_move(m: Move, x: Tensor, q: QParams) -> Rewrite:
    """quantize(move(x), q) = move(quantize(x, q))"""
    return rewrite(quantize(move(m, x), q)).to(move(m, quantize(x, q))).when(per_tensor_params(q))


@rule
def dequantize_through_move(m: Move, x: Tensor, q: QParams, f: Text) -> Rewrite:
    """move(dequantize(x, q)) = dequantize(move(x), q)"""
    return rewrite(move(m, dequantize(x, q, f))).to(dequantize(move(m, x), q, f)).when(per_tensor_params(q))


@rule
def quantize_through_pad(x: Tensor, a: Dims, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """quantize(pad(x, with 0), q) = pad(quantize(x, q), with the zero point)"""
    q = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(quantize(pad(x, a, 0.0), q))
        .to(pad(quantize(x, q), a, Number.of("to-f64", z)))
        .when(positive_scale(q), is_code(z, lo, hi))
    )


@rule
def dequantize_through_pad(x: Tensor, a: Dims, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """pad(dequantize(x, q), with 0) = dequantize(pad(x, with the zero point), q)"""
    q = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(pad(dequantize(x, q, "float32"), a, 0.0))
        .to(dequantize(pad(x, a, Number.of("to-f64", z)), q, "float32"))
        .when(is_code(z, lo, hi))
    )


@rule
def scaled_dequantize(x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text, c: Number) -> Rewrite:
    """dequantize(x, q) c = dequantize(x, q with scale s c)"""
    scaled = Number.of("*", s, c)
    return (
        rewrite(mul(dequantize(x, per_tensor(s, z, lo, hi, d), "float32"), scalar(c)))
        .to(dequantize(x, per_tensor(scaled, z, lo, hi, d), "float32"))
        .when(is_factor(c, scaled))
    )


@rule
def scaled_quantize(x: Tensor, c: Number, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """quantize(x c, q) = quantize(x, q with scale s / c) : where an int8 kernel then rounds, once"""
    scaled = Number.of("/", s, c)
    return (
        rewrite(quantize(mul(x, scalar(c)), per_tensor(s, z, lo, hi, d)))
        .to(quantize(x, per_tensor(scaled, z, lo, hi, d)))
        .when(absorbs(x), is_factor(c, scaled))
    )


@rule
def quantize_through_max_pool(x: Tensor, k: Dims, s: Dims, p: Dims, d: Dims, c: Integer, q: QParams) -> Rewrite:
    """quantize(max(x_i), q) = max(quantize(x_i, q)) : rounding and clamping are monotone"""
    return (
        rewrite(quantize(max_pool(x, k, s, p, d, c), q))
        .to(max_pool(quantize(x, q), k, s, p, d, c))
        .when(per_tensor_params(q), positive_scale(q))
    )


@rule
def dequantize_through_max_pool(
    x: Tensor, k: Dims, s: Dims, p: Dims, d: Dims, c: Integer, q: QParams, f: Text
) -> Rewrite:
    """max(dequantize(x_i, q)) = dequantize(max(x_i), q)"""
    return (
        rewrite(max_pool(dequantize(x, q, f), k, s, p, d, c))
        .to(dequantize(max_pool(x, k, s, p, d, c), q, f))
        .when(per_tensor_params(q), positive_scale(q))
    )


@rule
def quantize_through_cat(x: Tensor, y: Tensor, d: Integer, q: QParams) -> Rewrite:
    """quantize(cat(x, y), q) = cat(quantize(x, q), quantize(y, q))"""
    return rewrite(quantize(cat(x, y, d), q)).to(cat(quantize(x, q), quantize(y, q), d)).when(per_tensor_params(q))


@rule
def dequantize_through_cat(x: Tensor, y: Tensor, d: Integer, q: QParams, f: Text) -> Rewrite:
    """cat(dequantize(x, q), dequantize(y, q)) = dequantize(cat(x, y), q)"""
    return (
        rewrite(cat(dequantize(x, q, f), dequantize(y, q, f), d))
        .to(dequantize(cat(x, y, d), q, f))
        .when(per_tensor_params(q), codes_of(x, q), codes_of(y, q))
    )
