"""Factors, biases and normalizations behind an int8 contraction are taken into its weight's scales and its bias."""

from qegraph.lang import (
    Dims,
    Integer,
    Kind,
    Number,
    QParams,
    Tensor,
    Text,
    absent,
    absorbs,
    add,
    batch_norm,
    cast,
    channels_at_one,
    dynamic,
    expand,
    filled,
    has_dtype,
    identity,
    int_matmul,
    is_constant,
    is_half,
    is_per_row,
    is_vector,
    keeps_last_dim,
    keeps_shape,
    kernel_reads_activation,
    kernel_reads_codes,
    last_dim_is,
    linear,
    move,
    mul,
    norm_factor,
    norm_shift,
    nothing,
    one_element,
    per_output,
    per_tensor,
    permute,
    product,
    qgemm,
    range_of,
    rank_is,
    real,
    rewrite,
    rule,
    same_shape,
    scalable,
    scaled,
    total,
    vec,
    view,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")
TRANSPOSE = permute(vec(1, 0))
UNIT = per_tensor(1.0, 0, -128, 127, "int8")


def bare(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor) -> Tensor:
    """An int8 contraction with a float output, no residual and no post-op."""
    return qgemm(k, x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT)


@rule
def integer_product_int8(x: Tensor, y: Tensor, z: Integer, lo: Integer, hi: Integer, d: Text, t: Text) -> Rewrite:
    """cast(int_matmul(x - z, y)) = linear(dq(x), dq(transpose(y))) with scales 1"""
    qx = per_tensor(1.0, z, lo, hi, d)
    w = move(TRANSPOSE, y)
    return (
        rewrite(cast(int_matmul(x, y, z), t))
        .to(cast(bare(linear(), x, qx, w, UNIT, nothing()), t))
        .when(range_of(x, d, lo, hi), *kernel_reads_activation("linear", x, qx), *kernel_reads_codes(w))
    )


@rule
def factor_of_output(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, c: Tensor) -> Rewrite:
    """(s_w acc + b) c = (s_w c) acc + b c for a constant c over the output channels"""
    y = bare(k, x, qx, w, qw, b)
    return (
        rewrite(mul(y, c))
        .to(bare(k, x, qx, w, scaled(qw, c), product(b, c)))
        .when(*per_output(k, w, c), keeps_shape(y), is_constant(b))
    )


@rule
def bias_of_output(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, c: Tensor) -> Rewrite:
    """(acc + b) + c = acc + (b + c) for a constant c over the output channels"""
    y = bare(k, x, qx, w, qw, b)
    return (
        rewrite(add(y, c))
        .to(bare(k, x, qx, w, qw, total(b, c)))
        .when(*per_output(k, w, c), keeps_shape(y), is_constant(b), has_dtype(c, "float32"))
    )


@rule
def first_bias(c: Tensor) -> Rewrite:
    """nothing + c = c for a vector c : the bias is the same wherever it was found"""
    return rewrite(total(nothing(), c)).to(c).when(rank_is(c, 1), has_dtype(c, "float32"))


@rule
def norm_of_output(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor,
    g: Tensor, h: Tensor, m: Tensor, v: Tensor, e: Number,
) -> Rewrite:  # fmt: skip
    """batch_norm(acc + b) = (acc + b) f + (h - m f) with f = g / sqrt(v + e)"""
    y = bare(k, x, qx, w, qw, b)
    f = norm_factor(g, v, e)
    return (
        rewrite(batch_norm(y, g, h, m, v, e))
        .to(bare(k, x, qx, w, scaled(qw, f), total(product(b, f), norm_shift(h, m, f))))
        .when(channels_at_one(k, y), *(is_constant(each) for each in (b, g, h, m, v)), has_dtype(v, "float32"))
    )


@rule
def scale_of_activation(
    x: Tensor, z: Integer, lo: Integer, hi: Integer, d: Text, w: Tensor, qw: QParams, r: Tensor
) -> Rewrite:
    """acc r = the kernel with the activation scale r, one number known at run time"""
    y = bare(linear(), x, per_tensor(1.0, z, lo, hi, d), w, qw, nothing())
    return (
        rewrite(mul(y, r))
        .to(bare(linear(), x, dynamic(r, filled(vec(1), z, "int32"), lo, hi, d), w, qw, nothing()))
        .when(one_element(r), has_dtype(r, "float32"), keeps_shape(y))
    )


@rule
def columns_before_rows(y: Tensor, r: Tensor, c: Tensor, n: Integer) -> Rewrite:
    """(y r) c = (y c) r for a constant c over the output channels, which the kernel takes in"""
    return (
        rewrite(mul(mul(y, r), c))
        .to(mul(mul(y, c), r))
        .when(absorbs(y), is_per_row(r), is_constant(c), last_dim_is(y, n), is_vector(c, n), keeps_shape(y))
    )


@rule
def factor_is_broadcast(y: Tensor, r: Tensor, s: Dims) -> Rewrite:
    """y expand(r) = y r : multiplying broadcasts by itself"""
    return (
        rewrite(mul(y, move(expand(s), r)))
        .to(mul(y, r))
        .when(absorbs(y), same_shape(y, move(expand(s), r)), has_dtype(r, "float32"))
    )


@rule
def factor_through_view(v: Dims, y: Tensor, c: Tensor, n: Integer) -> Rewrite:
    """view(y) c = view(y c) where the view keeps the last dim, over which the constant c goes"""
    return (
        rewrite(mul(move(view(v), y), c))
        .to(move(view(v), mul(y, c)))
        .when(scalable(y), is_constant(c), keeps_last_dim(move(view(v), y), y), last_dim_is(y, n), is_vector(c, n))
    )


@rule
def bias_through_view(v: Dims, y: Tensor, c: Tensor, n: Integer) -> Rewrite:
    """view(y) + c = view(y + c) where the view keeps the last dim, over which the constant c goes"""
    return (
        rewrite(add(move(view(v), y), c))
        .to(move(view(v), add(y, c)))
        .when(absorbs(y), is_constant(c), keeps_last_dim(move(view(v), y), y), last_dim_is(y, n), is_vector(c, n))
    )


@rule
def factor_before_rounding(y: Tensor, c: Tensor, d: Text) -> Rewrite:
    """round(y) c = round(y c) in half precision : one rounding less"""
    rounded = cast(y, d)
    return (
        rewrite(mul(rounded, c))
        .to(cast(mul(y, cast(c, "float32")), d))
        .when(scalable(y), has_dtype(c, d), is_half(d), keeps_shape(y))
    )
