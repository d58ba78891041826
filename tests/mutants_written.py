"""Unsound rules written out: what no missing guard and no changed sub-term of a shipped rule says."""

from __future__ import annotations

import math

from qegraph.lang import (
    Dims,
    Guard,
    Integer,
    Kind,
    Move,
    Number,
    QParams,
    Tensor,
    Text,
    absent,
    add,
    cast,
    cat,
    clamp_codes,
    conv,
    dequantize,
    gemm,
    has_dtype,
    identity,
    is_code,
    is_pointwise,
    kernel_accepts,
    kernel_reads_narrow_weight,
    linear,
    matmul,
    move,
    mul,
    nothing,
    pad,
    per_tensor,
    per_tensor_params,
    permute,
    positive_scale,
    product_shape,
    qgemm,
    quantize,
    rank_is,
    real,
    relu,
    rewrite,
    rule,
    same_shape,
    scalar,
    scale_per_output,
    softmax,
    spans_dtype,
    unary,
    vec,
    view,
    weight_only,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")
ROWS, IMAGE = permute(vec(0, 2, 3, 1)), permute(vec(0, 3, 1, 2))


def bare(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor) -> Tensor:
    """An int8 contraction with a float output, no residual and no post-op."""
    return qgemm(k, x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT)


def pixels(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, n: Integer, c: Integer) -> Rewrite:
    """Any convolution with a 1x1 weight as a linear over pixels."""
    rows = bare(linear(), move(ROWS, x), qx, move(view(vec(n, c)), w), qw, b)
    return rewrite(bare(k, x, qx, w, qw, b)).to(move(IMAGE, rows)).when(is_pointwise(w, n, c))


@rule
def stride_ignored(
    st: Dims, dl: Dims, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, n: Integer, c: Integer
) -> Rewrite:
    """conv 1x1(x, w), at any stride = linear(rows of x, w)"""
    return pixels(conv(st, vec(0, 0), dl, 1), x, qx, w, qw, b, n, c)


@rule
def groups_ignored(
    dl: Dims, g: Integer, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, n: Integer, c: Integer
) -> Rewrite:
    """conv 1x1(x, w), in groups = linear(rows of x, w)"""
    return pixels(conv(vec(1, 1), vec(0, 0), dl, g), x, qx, w, qw, b, n, c)


@rule
def alpha_ignored(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, a: Number, d: Text
) -> Rewrite:
    """qgemm(...) + a y = qgemm(..., + y)"""
    product = bare(k, x, qx, w, qw, b)
    return (
        rewrite(add(product, mul(y, scalar(a))))
        .to(qgemm(k, x, qx, w, qw, b, y, real(d), identity(), FLOAT))
        .when(has_dtype(y, d), product_shape(product, y), kernel_accepts(k, d, FLOAT, identity()))
    )


@rule
def relu_before_residual(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, d: Text
) -> Rewrite:
    """relu(qgemm(...)) + y = qgemm(..., + y, relu)"""
    product = qgemm(k, x, qx, w, qw, b, nothing(), absent(), relu(), FLOAT)
    return (
        rewrite(add(product, y))
        .to(qgemm(k, x, qx, w, qw, b, y, real(d), relu(), FLOAT))
        .when(has_dtype(y, d), product_shape(product, y), kernel_accepts(k, d, FLOAT, relu()))
    )


@rule
def quantize_is_relu(x: Tensor, q: QParams) -> Rewrite:
    """quantize(relu(x), q) = quantize(x, q)"""
    return rewrite(quantize(unary(relu(), x), q)).to(quantize(x, q)).when(per_tensor_params(q), positive_scale(q))


@rule
def quantize_is_relu_at_highest_code(x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """quantize(relu(x), q) = quantize(x, q) where the highest code stands for 0"""
    q = per_tensor(s, z, lo, hi, d)
    at_high = Guard("saturates-above", "the highest code must stand for 0", (f"(= {z} {hi})",))
    return rewrite(quantize(unary(relu(), x), q)).to(quantize(x, q)).when(positive_scale(q), at_high)


@rule
def other_params_survive(x: Tensor, q: QParams, p: QParams) -> Rewrite:
    """quantize(dequantize(x, q), p) = x for codes of one dtype"""
    alike = Guard("alike", "both must be stored in one dtype", (f"(= (q-dtype {q}) (q-dtype {p}))",))
    return (
        rewrite(quantize(dequantize(x, q, "float32"), p))
        .to(x)
        .when(per_tensor_params(q), spans_dtype(q), spans_dtype(p), positive_scale(q), positive_scale(p), alike)
    )


@rule
def params_of_first_for_both(x: Tensor, y: Tensor, d: Integer, q: QParams, p: QParams, f: Text) -> Rewrite:
    """cat(dequantize(x, q), dequantize(y, p)) = dequantize(cat(x, y), q)"""
    alike = Guard("alike", "both must be stored in one dtype", (f"(= (q-dtype {q}) (q-dtype {p}))",))
    return (
        rewrite(cat(dequantize(x, q, f), dequantize(y, p, f), d))
        .to(dequantize(cat(x, y, d), q, f))
        .when(per_tensor_params(q), per_tensor_params(p), alike)
    )


@rule
def any_padding_is_zero_point(
    x: Tensor, a: Dims, v: Number, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text
) -> Rewrite:
    """pad(dequantize(x, q), with v) = dequantize(pad(x, with the zero point), q)"""
    q = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(pad(dequantize(x, q, "float32"), a, v))
        .to(dequantize(pad(x, a, Number.of("to-f64", z)), q, "float32"))
        .when(is_code(z, lo, hi))
    )


@rule
def matrix_not_transposed(x: Tensor, w: Tensor) -> Rewrite:
    """x @ w = linear(x, w)"""
    return rewrite(matmul(x, w)).to(gemm(linear(), x, w, nothing())).when(rank_is(w, 2))


@rule
def scale_along_inputs(x: Tensor, w: Tensor, d: Text, s: Tensor) -> Rewrite:
    """linear(x, cast(w) s) = the kernel that scales outputs, for a vector s over the inputs"""
    return (
        rewrite(gemm(linear(), x, mul(cast(w, d), s), nothing()))
        .to(weight_only(x, w, s))
        .when(*kernel_reads_narrow_weight(x, w, s, d), scale_per_output(w, s))
    )


@rule
def mask_scaled_too(x: Tensor, c: Number, m: Tensor) -> Rewrite:
    """softmax((x + m) c) = softmax(x, scale c, mask m)"""
    masked = Guard("keeps-shape", "the mask has the shape of the scores", (f"(= (shape {x}) (shape {m}))",))
    return (
        rewrite(softmax(mul(add(x, m), scalar(c)), 1.0, nothing()))
        .to(softmax(x, c, m))
        .when(masked, has_dtype(m, "float32"))
    )


@rule
def linear_through_any_move(m: Move, x: Tensor, w: Tensor, b: Tensor) -> Rewrite:
    """linear(move(x), w, b) = move(linear(x, w, b))"""
    return rewrite(gemm(linear(), move(m, x), w, b)).to(move(m, gemm(linear(), x, w, b)))


@rule
def moves_swapped(m: Move, n: Move, x: Tensor) -> Rewrite:
    """move(move(x, n), m) = move(move(x, m), n)"""
    return rewrite(move(m, move(n, x))).to(move(n, move(m, x)))


@rule
def any_move_that_keeps_shape(m: Move, x: Tensor) -> Rewrite:
    """move(x) = x where both have one shape"""
    return rewrite(move(m, x)).to(x).when(same_shape(move(m, x), x))


@rule
def bound_at_wrong_edge(x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """relu(dequantize(x, q)) = dequantize(min(x, zero point), q)"""
    q = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(unary(relu(), dequantize(x, q, "float32")))
        .to(dequantize(unary(clamp_codes(-math.inf, 0.0, q), x), q, "float32"))
        .when(positive_scale(q), spans_dtype(q), is_code(z, lo, hi))
    )
