"""Half precision (bfloat16, float16) around int8 kernels: they work in float32, so roundings move outward and meet.

What is rounded less often is nearer to the value without any rounding, which is what counts for half outputs. So where
they drop a rounding these rules are one-way: the rounded value is no stand-in for the exact one, which a user may want.
"""

from qegraph.lang import (
    Kind,
    Move,
    QParams,
    Tensor,
    Text,
    UnaryFn,
    absent,
    accumulated,
    add,
    cast,
    dequantize,
    has_dtype,
    identity,
    is_floating,
    is_half,
    kernel_accepts,
    move,
    nothing,
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
def cast_of_dequantize(x: Tensor, q: QParams, d: Text) -> Rewrite:
    """cast(dequantize(x, q), d) = dequantize(x, q, d)"""
    return rewrite(cast(dequantize(x, q, "float32"), d)).to(dequantize(x, q, d))


@rule
def cast_of_half(x: Tensor, q: QParams, d: Text, e: Text) -> Rewrite:
    """cast(dequantize(x, q, d), e) -> dequantize(x, q, e) : the codes still have what d has rounded away"""
    return rewrite(cast(dequantize(x, q, d), e)).to(dequantize(x, q, e)).when(is_half(d)).one_way()


@rule
def cast_of_cast(x: Tensor, d: Text, e: Text) -> Rewrite:
    """cast(cast(x, d), e) -> cast(x, e) : so does the kernel's accumulator"""
    return rewrite(cast(cast(x, d), e)).to(cast(x, e)).when(accumulated(x), is_half(d)).one_way()


@rule
def move_of_cast(m: Move, x: Tensor, d: Text) -> Rewrite:
    """move(cast(x, d)) = cast(move(x), d)"""
    return rewrite(move(m, cast(x, d))).to(cast(move(m, x), d)).when(accumulated(x), is_half(d))


@rule
def post_op_of_cast(
    f: UnaryFn, k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, o: Tensor, qo: QParams, d: Text
) -> Rewrite:
    """f(cast(qgemm(...), d)) -> cast(f(qgemm(...)), d) : rounded once, after f"""
    product = qgemm(k, x, qx, w, qw, b, o, qo, identity(), FLOAT)
    return (
        rewrite(unary(f, cast(product, d)))
        .to(cast(unary(f, product), d))
        .when(is_half(d), kernel_accepts(k, qo, FLOAT, f))
        .one_way()
    )


@rule
def residual_of_cast(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, d: Text, y: Tensor, e: Text
) -> Rewrite:
    """cast(qgemm(...), d) + y -> cast(qgemm(...) + y, e) : rounded once, to the dtype of the sum"""
    product = qgemm(k, x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT)
    return (
        rewrite(add(cast(product, d), y))
        .to(cast(add(product, y), e))
        .when(is_half(d), is_floating(y), result_dtype(e), kernel_accepts(k, FLOAT, FLOAT, identity()))
        .one_way()
    )


@rule
def half_residual(x: Tensor, y: Tensor, d: Text) -> Rewrite:
    """x + y = x + cast(y) : a float32 operand makes the other one float32"""
    return rewrite(add(x, y)).to(add(x, cast(y, "float32"))).when(accumulated(x), has_dtype(y, d), is_half(d))


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
