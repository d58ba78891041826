"""Half precision (bfloat16, float16) around int8 kernels: they work in float32, so roundings move outward and meet.

What is rounded less often is not further from the value without any rounding, which is what counts for half outputs.
"""

from qegraph.lang import (
    Kind,
    Move,
    QParams,
    Tensor,
    Text,
    UnaryFn,
    absorbs,
    accumulated,
    add,
    cast,
    dequantize,
    has_dtype,
    is_floating,
    is_half,
    kernel_accepts,
    move,
    qgemm,
    real,
    result_dtype,
    rewrite,
    rule,
    unary,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")


@rule
def cast_to_own_dtype(x: Tensor, d: Text) -> Rewrite:
    """cast(x, dtype of x) = x"""
    return rewrite(cast(x, d)).to(x).when(has_dtype(x, d))


@rule
def cast_of_dequantize(x: Tensor, q: QParams, d: Text, e: Text) -> Rewrite:
    """cast(dequantize(x, q, d), e) = dequantize(x, q, e)"""
    return rewrite(cast(dequantize(x, q, d), e)).to(dequantize(x, q, e))


@rule
def cast_of_cast(x: Tensor, d: Text, e: Text) -> Rewrite:
    """cast(cast(x, d), e) = cast(x, e) : the kernel still has what d has rounded away"""
    return rewrite(cast(cast(x, d), e)).to(cast(x, e)).when(accumulated(x), is_half(d))


@rule
def move_of_cast(m: Move, x: Tensor, d: Text) -> Rewrite:
    """move(cast(x, d)) = cast(move(x), d)"""
    return rewrite(move(m, cast(x, d))).to(cast(move(m, x), d)).when(accumulated(x), is_half(d))


@rule
def post_op_of_cast(f: UnaryFn, x: Tensor, d: Text) -> Rewrite:
    """f(cast(x, d)) = cast(f(x), d) : rounded once, after f"""
    return rewrite(unary(f, cast(x, d))).to(cast(unary(f, x), d)).when(absorbs(x), is_half(d))


@rule
def residual_of_cast(x: Tensor, d: Text, y: Tensor, e: Text) -> Rewrite:
    """cast(x, d) + y = cast(x + y, e) where e is the dtype of the sum : rounded once, after the sum"""
    return (
        rewrite(add(cast(x, d), y))
        .to(cast(add(x, cast(y, "float32")), e))
        .when(absorbs(x), is_half(d), is_floating(y), result_dtype(e))
    )


@rule
def store_half(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, o: Tensor, qo: QParams, f: UnaryFn, d: Text
) -> Rewrite:
    """cast(qgemm(...), d) = qgemm(... -> d) : the kernel rounds its float32 accumulator itself"""
    return (
        rewrite(cast(qgemm(k, x, qx, w, qw, b, o, qo, f, FLOAT), d))
        .to(qgemm(k, x, qx, w, qw, b, o, qo, f, real(d)))
        .when(is_half(d), kernel_accepts(k, qo, d, f))
    )


@rule
def store_half_sum(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, f: UnaryFn, d: Text
) -> Rewrite:
    """cast(qgemm(..., + cast(y)), d) = qgemm(..., + y -> d) : operand and output of one half dtype"""
    return (
        rewrite(cast(qgemm(k, x, qx, w, qw, b, cast(y, "float32"), FLOAT, f, FLOAT), d))
        .to(qgemm(k, x, qx, w, qw, b, y, real(d), f, real(d)))
        .when(is_half(d), has_dtype(y, d), kernel_accepts(k, d, d, f))
    )


@rule
def read_half(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, f: UnaryFn, out: QParams, d: Text
) -> Rewrite:
    """qgemm(..., + cast(y)) = qgemm(..., + y) : the kernel reads a half operand as it is"""
    return (
        rewrite(qgemm(k, x, qx, w, qw, b, cast(y, "float32"), FLOAT, f, out))
        .to(qgemm(k, x, qx, w, qw, b, y, real(d), f, out))
        .when(has_dtype(y, d), is_half(d), kernel_accepts(k, d, out, f))
    )
