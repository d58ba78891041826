"""One contraction as another with the same value: the cost model chooses by shape and zero point."""

from qegraph.lang import (
    Dims,
    Integer,
    Kind,
    Move,
    Number,
    QParams,
    Tensor,
    Text,
    UnaryFn,
    conv,
    is_code,
    is_constant,
    is_padded,
    is_pointwise,
    is_unpadded,
    kernel_accepts,
    linear,
    move,
    nonzero_point,
    nothing,
    offset_bias,
    offset_fits,
    pad_codes,
    per_tensor,
    permute,
    qgemm,
    rewrite,
    rule,
    vec,
    view,
)
from qegraph.lang.rule import Rewrite

ROWS, IMAGE = permute(vec(0, 2, 3, 1)), permute(vec(0, 3, 1, 2))


@rule
def conv_1x1_is_linear(
    dl: Dims, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, qy: QParams, f: UnaryFn, q: QParams,
    n: Integer, c: Integer,
) -> Rewrite:  # fmt: skip
    """conv 1x1(x, w) = linear(rows of x, w) : every pixel by itself"""
    pointwise = conv(vec(1, 1), vec(0, 0), dl, 1)
    rows = qgemm(linear(), move(ROWS, x), qx, move(view(vec(n, c)), w), qw, b, move(ROWS, y), qy, f, q)
    return (
        rewrite(qgemm(pointwise, x, qx, w, qw, b, y, qy, f, q))
        .to(move(IMAGE, rows))
        .when(is_pointwise(w, n, c), kernel_accepts("linear", qy, q, f))
    )


@rule
def nothing_moved(m: Move) -> Rewrite:
    """move(nothing) = nothing : rules that move a residual need not ask whether there is one"""
    return rewrite(move(m, nothing())).to(nothing())


@rule
def zero_point_into_bias(
    k: Kind, x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text, w: Tensor, qw: QParams, b: Tensor,
    y: Tensor, qy: QParams, f: UnaryFn, q: QParams,
) -> Rewrite:  # fmt: skip
    """s s_w sum((x - z) w) + b = s s_w sum(x w) + (b - s z s_w sum(w)) : the kernel needn't subtract"""
    without = offset_bias(b, w, qw, s, z)
    return (
        rewrite(qgemm(k, x, per_tensor(s, z, lo, hi, d), w, qw, b, y, qy, f, q))
        .to(qgemm(k, x, per_tensor(s, 0, lo, hi, d), w, qw, without, y, qy, f, q))
        .when(nonzero_point(z), is_unpadded(k), is_constant(b), offset_fits(w, qw, s, z, q))
    )


@rule
def padding_of_codes(
    st: Dims, pd: Dims, dl: Dims, g: Integer, x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer, d: Text,
    w: Tensor, qw: QParams, b: Tensor, y: Tensor, qy: QParams, f: UnaryFn, q: QParams,
) -> Rewrite:  # fmt: skip
    """conv(x) padded with 0 = conv(x padded with the zero point), which opens the way for `zero-point-into-bias`"""
    qx = per_tensor(s, z, lo, hi, d)
    return (
        rewrite(qgemm(conv(st, pd, dl, g), x, qx, w, qw, b, y, qy, f, q))
        .to(qgemm(conv(st, vec(0, 0), dl, g), pad_codes(x, pd, z), qx, w, qw, b, y, qy, f, q))
        .when(nonzero_point(z), is_padded(pd), is_constant(b), is_code(z, lo, hi), offset_fits(w, qw, s, z, q))
    )
