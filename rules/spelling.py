"""Exact spellings: what decompositions write in several operators, read back as the one word it is."""

from qegraph.lang import (
    Integer,
    Number,
    Tensor,
    UnaryFn,
    add,
    clamp,
    close,
    div,
    gates,
    gemm,
    is_floating,
    is_nonzero,
    is_vector,
    is_zero,
    last_dim_is,
    linear,
    matmul,
    move,
    moves_out,
    mul,
    named,
    nothing,
    permute,
    rank_is,
    rewrite,
    rule,
    same_dtype,
    same_shape,
    scalar,
    stacks,
    unary,
    vec,
)
from qegraph.lang.rule import Rewrite

TRANSPOSE = permute(vec(1, 0))


@rule
def matmul_is_linear(x: Tensor, w: Tensor) -> Rewrite:
    """x @ transpose(w) = linear(x, w)"""
    return rewrite(matmul(x, move(TRANSPOSE, w))).to(gemm(linear(), x, w, nothing())).when(rank_is(w, 2))


@rule
def batched_matmul_is_linear(x: Tensor, y: Tensor, w: Tensor) -> Rewrite:
    """x[i] @ transpose(w) for every i = linear(x, w)"""
    return rewrite(matmul(x, y)).to(gemm(linear(), x, w, nothing())).when(stacks(y, move(TRANSPOSE, w)), rank_is(w, 2))


@rule
def bias_of_linear(x: Tensor, w: Tensor, b: Tensor, n: Integer) -> Rewrite:
    """linear(x, w) + b = linear(x, w, b) for a vector b over the outputs"""
    product = gemm(linear(), x, w, nothing())
    return (
        rewrite(add(product, b))
        .to(gemm(linear(), x, w, b))
        .when(last_dim_is(product, n), is_vector(b, n), same_dtype(b, product), is_floating(b))
    )


@rule
def clamp_of_clamp(x: Tensor, a: Number, b: Number, c: Number, d: Number) -> Rewrite:
    """clamp(clamp(x, a, b), c, d) = clamp(x, clamp(a, c, d), clamp(b, c, d))"""
    low, high = Number.of("min", Number.of("max", a, c), d), Number.of("max", Number.of("min", b, d), c)
    return rewrite(unary(clamp(c, d), unary(clamp(a, b), x))).to(unary(clamp(low, high), x))


@rule
def gate_of_itself(x: Tensor, f: UnaryFn, g: UnaryFn) -> Rewrite:
    """x f(x) = g(x) : sigmoid gives silu, hardsigmoid gives hardswish"""
    return rewrite(mul(x, unary(f, x))).to(unary(g, x)).when(gates(f, g))


@rule
def silu_of_exp(x: Tensor, one: Number) -> Rewrite:
    """x / (exp(-x) + 1) = silu(x)"""
    bottom = add(unary(named("exp"), unary(named("neg"), x)), scalar(one))
    return rewrite(div(x, bottom)).to(unary(named("silu"), x)).when(close(one, 1.0))


@rule
def division_by_constant(x: Tensor, c: Number) -> Rewrite:
    """x / c = x * (1 / c)"""
    return rewrite(div(x, scalar(c))).to(mul(x, scalar(Number.of("/", 1.0, c)))).when(is_nonzero(c))


@rule
def factor_moves_out(x: Tensor, a: Number, y: Tensor) -> Rewrite:
    """(x a) y = (x y) a for a constant a"""
    return rewrite(mul(mul(x, scalar(a)), y)).to(mul(mul(x, y), scalar(a))).when(same_shape(x, y), moves_out(x, a))


@rule
def gelu_of_erf(x: Tensor, half: Number, root: Number, one: Number) -> Rewrite:
    """x (erf(x / sqrt 2) + 1) / 2 = gelu(x)"""
    erf = unary(named("erf"), mul(x, scalar(root)))
    return (
        rewrite(mul(mul(x, add(erf, scalar(one))), scalar(half)))
        .to(unary(named("gelu"), x))
        .when(close(half, 0.5), close(root, 0.7071067811865476), close(one, 1.0))
    )


@rule
def gelu_of_tanh(x: Tensor, half: Number, cubic: Number, root: Number, one: Number) -> Rewrite:
    """x (tanh(sqrt(2/pi) (x + 0.044715 x^3)) + 1) / 2 = gelu_tanh(x)"""
    inner = mul(add(x, mul(mul(mul(x, x), x), scalar(cubic))), scalar(root))
    return (
        rewrite(mul(mul(x, add(unary(named("tanh"), inner), scalar(one))), scalar(half)))
        .to(unary(named("gelu-tanh"), x))
        .when(close(half, 0.5), close(cubic, 0.044715), close(root, 0.7978845608028654), close(one, 1.0))
    )


@rule
def hardswish_of_clamp(x: Tensor, three: Number, low: Number, high: Number, sixth: Number) -> Rewrite:
    """x clamp(x + 3, 0, 6) / 6 = hardswish(x)"""
    return (
        rewrite(mul(mul(x, unary(clamp(low, high), add(x, scalar(three)))), scalar(sixth)))
        .to(unary(named("hardswish"), x))
        .when(close(three, 3.0), is_zero(low), close(high, 6.0), close(sixth, 1 / 6))
    )
