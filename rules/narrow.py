"""Products with a weight that is stored narrower than it is used: int8 codes or half floats."""

from qegraph.lang import (
    Integer,
    Tensor,
    Text,
    cast,
    cat,
    gemm,
    half_linear,
    has_dtype,
    identity,
    is_column,
    is_constant,
    is_finite,
    kernel_adds_bias,
    kernel_present,
    kernel_reads_narrow_weight,
    linear,
    matmul,
    move,
    mul,
    not_empty,
    nothing,
    outputs_are,
    permute,
    rank_is,
    relu,
    rewrite,
    rule,
    scale_per_output,
    unary,
    vec,
    view,
    weight_only,
)
from qegraph.lang.rule import Rewrite

TRANSPOSE = permute(vec(1, 0))


@rule
def weight_only_int8(x: Tensor, w: Tensor, d: Text, s: Tensor) -> Rewrite:
    """linear(x, cast(w)) s = the kernel that reads the codes w : it sums in float32 and rounds once"""
    return (
        rewrite(mul(gemm(linear(), x, cast(w, d), nothing()), s))
        .to(weight_only(x, w, s))
        .when(*kernel_reads_narrow_weight(x, w, s, d), scale_per_output(w, s))
    )


@rule
def scale_of_weight(x: Tensor, w: Tensor, d: Text, s: Tensor, n: Integer) -> Rewrite:
    """linear(x, cast(w) s) = the same kernel, for a column s of one factor per output"""
    factors = move(view(vec(n)), s)
    return (
        rewrite(gemm(linear(), x, mul(cast(w, d), s), nothing()))
        .to(weight_only(x, w, factors))
        .when(*kernel_reads_narrow_weight(x, w, s, d), is_column(s, n), outputs_are(w, n))
    )


@rule
def cat_of_floats(x: Tensor, y: Tensor, d: Text, k: Integer) -> Rewrite:
    """cat(cast(x), cast(y)) = cast(cat(x, y)) for constant codes"""
    return (
        rewrite(cat(cast(x, d), cast(y, d), k))
        .to(cast(cat(x, y, k), d))
        .when(is_constant(x), is_constant(y), has_dtype(x, "int8"), has_dtype(y, "int8"))
    )


@rule
def matmul_of_codes(x: Tensor, y: Tensor, d: Text) -> Rewrite:
    """x @ cast(y) = linear(x, cast(transpose(y))) for constant codes y"""
    return (
        rewrite(matmul(x, cast(y, d)))
        .to(gemm(linear(), x, cast(move(TRANSPOSE, y), d), nothing()))
        .when(is_constant(y), has_dtype(y, "int8"), rank_is(y, 2))
    )


@rule
def linear_fp16(x: Tensor, w: Tensor, b: Tensor) -> Rewrite:
    """linear(x, cast(w: float16), b) = the kernel that keeps w as half floats and sums in float32"""
    return (
        rewrite(gemm(linear(), x, cast(w, "float32"), b))
        .to(half_linear(x, w, b, identity()))
        .when(
            kernel_present("linear_fp16"),
            is_constant(w),
            has_dtype(w, "float16"),
            is_finite(w),
            has_dtype(x, "float32"),
            not_empty(x),
            kernel_adds_bias(w, b),
        )
    )


@rule
def linear_fp16_relu(x: Tensor, w: Tensor, b: Tensor) -> Rewrite:
    """relu(half_linear(x, w, b)) = half_linear(x, w, b, relu)"""
    return rewrite(unary(relu(), half_linear(x, w, b, identity()))).to(half_linear(x, w, b, relu()))
