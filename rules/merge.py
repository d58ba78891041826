"""Several linears on the same activation as one: their weights, scales and biases are constants, joined beforehand."""

from qegraph.lang import (
    Integer,
    Kind,
    QParams,
    Tensor,
    UnaryFn,
    absent,
    joinable,
    joined,
    joined_params,
    next_of_same_operand,
    nothing,
    part,
    qgemm,
    rewrite,
    rule,
)
from qegraph.lang.rule import Rewrite


@rule
def two_linears_as_one(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, v: Tensor, qv: QParams, c: Tensor,
    f: UnaryFn, q: QParams, n: Integer, m: Integer, r: Integer, t: Integer,
) -> Rewrite:  # fmt: skip
    """linear(x, w), linear(x, v) = the first r and the last t outputs of linear(x, [w, v]), which keep their scales"""
    left = qgemm(k, x, qx, w, qw, b, nothing(), absent(), f, q)
    right = qgemm(k, x, qx, v, qv, c, nothing(), absent(), f, q)
    weights, params, biases = joined(w, v, n, m), joined_params(qw, qv, n, m), joined(b, c, r, t)
    both = qgemm(k, x, qx, weights, params, biases, nothing(), absent(), f, q)
    return (
        rewrite(left)
        .to(part(both, 0, r))
        .and_(right)
        .to(part(both, r, t))
        .when(next_of_same_operand(left, right, (k, x, qx, f, q)), *joinable(left, right, qw, qv, (n, m), (r, t)))
    )
