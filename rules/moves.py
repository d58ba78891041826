"""Rearrangements: views of views, views that change nothing, and views a linear doesn't see."""

from qegraph.lang import (
    Dims,
    Integer,
    Move,
    Tensor,
    gemm,
    keeps_last_dim,
    keeps_order,
    linear,
    move,
    outputs_are,
    rewrite,
    rule,
    shape_is,
    undoes,
    view,
)
from qegraph.lang.rule import Rewrite


@rule
def view_of_view(s: Dims, t: Dims, x: Tensor) -> Rewrite:
    """view(view(x, s), t) = view(x, t)"""
    return rewrite(move(view(t), move(view(s), x))).to(move(view(t), x))


@rule
def permute_back(m: Move, n: Move, x: Tensor) -> Rewrite:
    """permute(permute(x, n), m) = x where m is the inverse of n"""
    return rewrite(move(m, move(n, x))).to(x).when(undoes(m, n))


@rule
def same_shape_again(m: Move, x: Tensor, s: Dims) -> Rewrite:
    """view(x, shape of x) = x = expand(x, shape of x)"""
    return rewrite(move(m, x)).to(x).when(keeps_order(m, s), shape_is(x, s))


@rule
def linear_through_view(s: Dims, x: Tensor, w: Tensor, b: Tensor, t: Dims, n: Integer) -> Rewrite:
    """linear(view(x), w, b) = view(linear(x, w, b)) where the view keeps the last dim"""
    regrouped = move(view(s), x)
    return (
        rewrite(gemm(linear(), regrouped, w, b))
        .to(move(view(Dims.of("vec-push", Dims.of("vec-pop", s), n)), gemm(linear(), x, w, b)))
        .when(keeps_last_dim(regrouped, x), shape_is(x, t), outputs_are(w, n))
    )
