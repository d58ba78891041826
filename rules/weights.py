"""Weights that are stored in another form than the kernels read: rearranged once, when they are packed."""

from qegraph.lang import (
    Dims,
    Integer,
    QParams,
    Tensor,
    Text,
    axis_after,
    dequantize,
    gemm,
    is_constant,
    keeps_first_dim,
    leaf,
    linear,
    matmul,
    move,
    nothing,
    per_channel,
    permute,
    rank_is,
    rewrite,
    rule,
    vec,
    view,
)
from qegraph.lang.rule import Rewrite

TRANSPOSE = permute(vec(1, 0))


@rule
def channels_through_permute(
    p: Dims, w: Tensor, s: Tensor, z: Tensor, a: Integer, lo: Integer, hi: Integer, d: Text, b: Integer
) -> Rewrite:
    """permute(dequantize(w, scales along a)) = dequantize(permute(w), scales along the dim that a becomes)"""
    return (
        rewrite(move(permute(p), dequantize(w, per_channel(s, z, a, lo, hi, d), "float32")))
        .to(dequantize(move(permute(p), w), per_channel(s, z, b, lo, hi, d), "float32"))
        .when(axis_after(permute(p), a, b))
    )


@rule
def channels_through_view(t: Dims, w: Tensor, s: Tensor, z: Tensor, lo: Integer, hi: Integer, d: Text) -> Rewrite:
    """view(dequantize(w, scales along 0)) = dequantize(view(w), scales along 0) where the view keeps dim 0"""
    q = per_channel(s, z, 0, lo, hi, d)
    viewed = move(view(t), dequantize(w, q, "float32"))
    return rewrite(viewed).to(dequantize(move(view(t), w), q, "float32")).when(keeps_first_dim(viewed, w))


@rule
def matmul_with_stored_matrix(x: Tensor, i: Integer, q: QParams) -> Rewrite:
    """x @ dequantize(w) = linear(x, transpose(dequantize(w))) for a constant w"""
    w = dequantize(leaf(i), q, "float32")
    return (
        rewrite(matmul(x, w))
        .to(gemm(linear(), x, move(TRANSPOSE, w), nothing()))
        .when(is_constant(leaf(i)), rank_is(w, 2))
    )
