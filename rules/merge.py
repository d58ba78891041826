"""Several linears on the same activation as one, and one as several: constants are joined, or cut, beforehand."""

from qegraph.lang import (
    Integer,
    Kind,
    Move,
    QParams,
    Tensor,
    UnaryFn,
    absent,
    cut,
    cut_params,
    cuts,
    is_constant,
    joinable,
    joined,
    joined_params,
    linear,
    move,
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


@rule
def part_as_linear(
    m: Move, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, f: UnaryFn, q: QParams, s: Integer, n: Integer
) -> Rewrite:
    """outputs s to s + n of linear(x, w, b) = linear(x, w[s : s + n], b[s : s + n]), which can be stored its own way"""
    whole = qgemm(linear(), x, qx, w, qw, b, nothing(), absent(), f, q)
    own = qgemm(linear(), x, qx, cut(w, s, n), cut_params(qw, s, n), cut(b, s, n), nothing(), absent(), f, q)
    return rewrite(move(m, whole)).to(own).when(cuts(m, whole, s, n), is_constant(b))
