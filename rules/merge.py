"""Several linears on the same codes as one: their weights, scales and biases are constants, joined beforehand."""

from qegraph.lang import (
    Integer,
    QParams,
    Tensor,
    UnaryFn,
    absent,
    joinable,
    joined,
    joined_params,
    linear,
    next_of_same_operand,
    nothing,
    part,
    qgemm,
    rewrite,
    rule,
)
from qegraph.lang.rule import Rewrite


def product(x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, f: UnaryFn, q: QParams) -> Tensor:
    return qgemm(linear(), x, qx, w, qw, b, nothing(), absent(), f, q)


@rule
def first_of_two_linears(
    x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, v: Tensor, qv: QParams, c: Tensor,
    f: UnaryFn, q: QParams, n: Integer, m: Integer,
) -> Rewrite:  # fmt: skip
    """linear(x, w) = the first n outputs of linear(x, [w, v]) : each output channel keeps its scale and bias"""
    left, right = product(x, qx, w, qw, b, f, q), product(x, qx, v, qv, c, f, q)
    both = product(x, qx, joined(w, v, n, m), joined_params(qw, qv, n, m), joined(b, c, n, m), f, q)
    return (
        rewrite(left)
        .to(part(both, 0, n))
        .when(next_of_same_operand(left, right, (x, qx, f, q)), joinable(w, v, b, c, n, m))
    )


@rule
def second_of_two_linears(
    x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, v: Tensor, qv: QParams, c: Tensor,
    f: UnaryFn, q: QParams, n: Integer, m: Integer,
) -> Rewrite:  # fmt: skip
    """linear(x, v) = the last m outputs of linear(x, [w, v])"""
    left, right = product(x, qx, w, qw, b, f, q), product(x, qx, v, qv, c, f, q)
    both = product(x, qx, joined(w, v, n, m), joined_params(qw, qv, n, m), joined(b, c, n, m), f, q)
    return (
        rewrite(right)
        .to(part(both, n, m))
        .when(next_of_same_operand(left, right, (x, qx, f, q)), joinable(w, v, b, c, n, m))
    )
