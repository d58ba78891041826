"""Several ops at once, in the order models have them: what single random ops come upon too rarely."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qegraph.torch_names import aten

from . import contractions, elementwise, moves, reductions
from .borders import dequantize, quantize, quantized_again, read, weight
from .draft import Draft, Refused, Value

_CONTRACTIONS = tuple(contractions.OPS.values())
_POST_OPS = (
    "relu",
    "relu6",
    "hardtanh",
    "gelu",
    "gelu-tanh",
    "silu",
    "hardswish",
    "leaky_relu",
    "tanh",
    "clamp",
    "relu_",
)


def _after(d: Draft, value: Value, kind: str) -> Value:
    """An op of this kind on the value just made."""
    d.keep(value)
    return elementwise.OPS[kind](d)


def _product(d: Draft) -> Value:
    return d.rng.choice(_CONTRACTIONS)(d)


def _layer(d: Draft) -> Value:
    """A contraction, a post-op, and codes."""
    x = _product(d)
    if d.chance(0.7):
        x = _after(d, x, d.rng.choice(_POST_OPS))
    return dequantize(d, d.keep(quantize(d, x)))


def _residual(d: Draft) -> Value:
    """A contraction plus a value of its shape, on either side, dequantized or not."""
    x = _product(d)
    same = [y for y in d.pool if y.is_float and y.shape == x.shape and y.tensor.dtype == x.tensor.dtype]
    y = d.rng.choice(same) if same and d.chance(0.8) else d.keep(quantized_again(d, d.constant(d.normal(*x.shape))))
    op = aten.add_.Tensor if d.chance(0.15) else aten.add.Tensor
    total = d.call(op, x, y) if op is aten.add_.Tensor or d.chance(0.6) else d.call(op, y, x)
    if d.chance(0.5):
        d.keep(total)
        total = d.call(aten.relu.default, total)
    return quantized_again(d, total) if d.chance(0.7) else total


def _beside(d: Draft) -> Value:
    """Two or three linears of one operand, as of queries, keys and values."""
    x = read(d, 2, 3)
    for _ in range(d.rng.randint(1, 2)):
        d.keep(_of(d, x))
    return _of(d, x)


def _of(d: Draft, x: Value) -> Value:
    n = d.rng.choice((4, 8))
    bias = d.constant(d.normal(n)) if d.chance(0.6) else None
    return d.call(aten.linear.default, x, weight(d, n, x.shape[-1]), bias)


def _heads(d: Draft) -> Value:
    """Attention: linears, heads, scores that are scaled and masked, softmax, and the product with values."""
    x = read(d, 3)
    batch, length, _ = x.shape
    parts: list[Value] = []
    for _ in range(3):
        part = d.call(aten.linear.default, x, weight(d, 8, x.shape[-1]), d.constant(d.normal(8)))
        view = d.call(aten.view.default, part, [batch, length, 2, 4])
        parts.append(d.call(aten.permute.default, view, [0, 2, 1, 3]))
    scores = d.call(aten.matmul.default, parts[0], d.call(aten.transpose.int, parts[1], -1, -2))
    scores = d.call(d.rng.choice((aten.div.Tensor, aten.mul.Tensor)), scores, d.rng.choice((2.0, 0.5)))
    if d.chance(0.5):
        scores = d.call(aten.add.Tensor, scores, d.constant(d.normal(length, length)))
    weights = d.call(aten.softmax.int, scores, -1)
    if d.chance(0.5):
        weights = dequantize(d, d.keep(quantize(d, weights)))
    product = d.call(aten.permute.default, d.call(aten.matmul.default, weights, parts[2]), [0, 2, 1, 3])
    return d.call(aten.reshape.default, product, [batch, length, 8])


def _normed(d: Draft) -> Value:
    """Batch norm right after a contraction, or between codes; a relu after it."""
    if d.chance(0.7):
        d.keep(_product(d))
    x = reductions.OPS["batch_norm"](d)
    if d.chance(0.5):
        x = _after(d, x, "relu")
    return quantized_again(d, x)


def _scaled(d: Draft) -> Value:
    """Factors and shifts over the outputs of a linear."""
    x = d.call(aten.linear.default, *_operands(d))
    for _ in range(d.rng.randint(1, 2)):
        op = d.rng.choice((aten.mul.Tensor, aten.add.Tensor, aten.div.Tensor))
        other = d.rng.choice((0.25, 3.0)) if d.chance(0.4) else d.constant(d.normal(x.shape[-1]).abs() + 0.5)
        x = d.call(op, x, other)
    return quantized_again(d, x) if d.chance(0.5) else x


def _operands(d: Draft) -> tuple[Value, Value, Value]:
    x = read(d, 2, 3)
    n = d.rng.choice((4, 8))
    return x, weight(d, n, x.shape[-1]), d.constant(d.normal(n))


def _codes_only(d: Draft) -> Value:
    """A sum or a product of two dequantized values, and its codes."""
    x = d.pick(lambda v: v.tensor.dtype == torch.float32 and "dequantize" in str(v.node.target))
    same = [y for y in d.pool if y.shape == x.shape and "dequantize" in str(y.node.target)]
    y = d.rng.choice(same) if d.chance(0.4) else d.keep(quantized_again(d, d.constant(d.normal(*x.shape))))
    total = d.call(d.rng.choice((aten.add.Tensor, aten.mul.Tensor)), x, y)
    if d.chance(0.4):
        total = d.call(aten.relu.default, total)
    return quantized_again(d, total)


def _gate(d: Draft) -> Value:
    """x f(x), spelled out."""
    x = d.keep(_product(d)) if d.chance(0.6) else d.floats()
    how = d.rng.choice(("sigmoid", "hardsigmoid", "hardswish", "erf", "exp"))
    if how == "hardswish":
        clamped = d.call(aten.clamp.default, d.call(aten.add.Tensor, x, 3), 0, 6)
        result = d.call(aten.div.Tensor, d.call(aten.mul.Tensor, x, clamped), 6)
    elif how == "erf":
        erf = d.call(aten.erf.default, d.call(aten.mul.Tensor, x, 0.7071067811865476))
        result = d.call(aten.mul.Tensor, d.call(aten.mul.Tensor, x, 0.5), d.call(aten.add.Tensor, erf, 1))
    elif how == "exp":
        below = d.call(aten.add.Tensor, d.call(aten.exp.default, d.call(aten.neg.default, x)), 1)
        result = d.call(aten.div.Tensor, x, below)
    else:
        gate = d.call(aten.sigmoid.default if how == "sigmoid" else aten.hardsigmoid.default, x)
        result = d.call(aten.mul.Tensor, x, gate)
    return quantized_again(d, result) if d.chance(0.5) else result


def _weight_only(d: Draft) -> Value:
    """A float operand and an int8 matrix that is cast, its scales after the product or before."""
    x = d.floats(2, 3)
    n = d.rng.choice((4, 8))
    codes = torch.randint(-127, 128, (n, x.shape[-1]), dtype=torch.int8, generator=d.generator)
    column = torch.rand(n, generator=d.generator) * 0.01 + 0.001
    matrix = d.call(aten.to.dtype, d.constant(codes), torch.float32)
    if d.chance(0.5):
        return d.call(aten.mul.Tensor, d.call(aten.linear.default, x, matrix), d.constant(column))
    return d.call(aten.linear.default, x, d.call(aten.mul.Tensor, matrix, d.constant(column[:, None])))


def _same_codes(d: Draft) -> Value:
    """Codes of the parameters their source has, after an op that keeps them: pooling, cat, a move, a clamp."""
    x = d.keep(dequantize(d, d.pick(lambda v: v.qp is not None)))
    kinds = {"cat": moves.OPS["cat"], "pad": moves.OPS["pad"], "relu": elementwise.OPS["relu"]}
    kinds |= {name: moves.OPS[name] for name in ("permute", "view", "slice", "flip")}
    kinds |= {name: reductions.OPS[name] for name in ("max_pool2d", "avg_pool2d")}
    y = d.rng.choice(list(kinds.values()))(d)
    if not y.is_float:
        raise Refused
    source = x.node.args[0]
    qp = next(each.qp for each in d.pool if each.node is source)
    return quantize(d, y, qp)


OPS: dict[str, Callable[[Draft], Value]] = {
    "layer": _layer,
    "residual": _residual,
    "linears-beside": _beside,
    "attention": _heads,
    "norm-after": _normed,
    "scaled-linear": _scaled,
    "codes-only": _codes_only,
    "gate": _gate,
    "weight-only": _weight_only,
    "same-codes": _same_codes,
}
