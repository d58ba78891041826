"""Ops that work element by element: unary functions, sums and products, casts, and writes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qegraph.torch_names import aten

from .draft import FLOATS, Draft, Refused, Value

Op = Callable[[Draft], Value]

_PLAIN = {
    "relu": aten.relu.default,
    "relu6": aten.relu6.default,
    "gelu": aten.gelu.default,
    "silu": aten.silu.default,
    "hardswish": aten.hardswish.default,
    "hardsigmoid": aten.hardsigmoid.default,
    "tanh": aten.tanh.default,
    "sigmoid": aten.sigmoid.default,
    "elu": aten.elu.default,
    "mish": aten.mish.default,
    "neg": aten.neg.default,
    "abs": aten.abs.default,
    "square": aten.square.default,
    "hardtanh": aten.hardtanh.default,
    "leaky_relu": aten.leaky_relu.default,
    "clone": aten.clone.default,
    "contiguous": aten.contiguous.default,
}
_WITH_OPTIONS: dict[str, Callable[[Draft, Value], Value]] = {
    "gelu-tanh": lambda d, x: d.call(aten.gelu.default, x, approximate="tanh"),
    "hardtanh-options": lambda d, x: d.call(aten.hardtanh.default, x, *_limits(d)),
    "clamp": lambda d, x: d.call(aten.clamp.default, x, *_limits(d)),
    "clamp-min": lambda d, x: d.call(aten.clamp_min.default, x, d.rng.choice((0, 0.0, -0.5, 0.25))),
    "leaky_relu-options": lambda d, x: d.call(aten.leaky_relu.default, x, d.rng.choice((0.2, 0.125, 0.0))),
    "elu-options": lambda d, x: d.call(aten.elu.default, x, d.rng.choice((0.5, 2.0))),
    "softplus": lambda d, x: d.call(aten.softplus.default, x),
    "mul-number": lambda d, x: d.call(aten.mul.Tensor, x, _number(d)),
    "div-number": lambda d, x: d.call(aten.div.Tensor, x, _number(d)),
    "add-number": lambda d, x: d.call(aten.add.Tensor, x, _number(d)),
    "sub-number": lambda d, x: d.call(aten.sub.Tensor, x, _number(d)),
}
_WRITING = {
    "relu_": aten.relu_.default,
    "hardtanh_": aten.hardtanh_.default,
    "hardswish_": aten.hardswish_.default,
    "silu_": aten.silu_.default,
    "leaky_relu_": aten.leaky_relu_.default,
}


def _limits(d: Draft) -> tuple[float, float]:
    return d.rng.choice(((0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (-0.3, 0.7), (0, 4)))


def _number(d: Draft) -> float:
    return d.rng.choice((2, 0.5, -1.5, 1.0, 3, 0.3333, d.rng.uniform(0.1, 2.0)))


def _any_float(d: Draft) -> Value:
    return d.pick(lambda v: v.is_float)


def _unary(op: Any) -> Op:
    return lambda d: d.call(op, _any_float(d))


def _optional(make: Callable[[Draft, Value], Value]) -> Op:
    return lambda d: make(d, d.floats())


def _in_place(op: Any) -> Op:
    """On memory of the graph's own; other names of it see the write, too."""
    return lambda d: d.call(op, d.pick(lambda v: v.is_float and d.owns(v)))


def _pair(d: Draft) -> tuple[Value, Value]:
    """Of one dtype, the second one broadcast to the first at most."""
    x = _any_float(d)
    fits = [y for y in d.pool if y.tensor.dtype == x.tensor.dtype and _broadcasts(y.shape, x.shape)]
    if d.chance(0.15):
        return x, d.constant(d.normal(*x.shape[d.rng.randint(0, x.rank) :]).to(x.tensor.dtype))
    return x, d.rng.choice(fits)


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if len(small) > len(large):
        return False
    return all(a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False))


def _binary(op: Any, has_alpha: bool) -> Op:
    def make(d: Draft) -> Value:
        x, y = _pair(d)
        if d.chance(0.5):
            x, y = y, x
        alpha: dict[str, Any] = {"alpha": d.rng.choice((2, 0.5, -1))} if has_alpha and d.chance(0.2) else {}
        return d.call(op, x, y, **alpha)

    return make


def _added_in_place(d: Draft) -> Value:
    x, y = _pair(d)
    if not d.owns(x):
        raise Refused
    return d.call(aten.add_.Tensor, x, y)


def _cast(d: Draft) -> Value:
    x = _any_float(d)
    dtypes = (torch.float32,) * 4 + FLOATS if x.tensor.dtype != torch.float32 else FLOATS
    return d.call(aten.to.dtype, x, d.rng.choice(dtypes))


OPS: dict[str, Op] = {
    **{name: _unary(op) for name, op in _PLAIN.items()},
    **{name: _optional(make) for name, make in _WITH_OPTIONS.items()},
    **{name: _in_place(op) for name, op in _WRITING.items()},
    "add_": _added_in_place,
    "add": _binary(aten.add.Tensor, True),
    "sub": _binary(aten.sub.Tensor, True),
    "mul": _binary(aten.mul.Tensor, False),
    "cast": _cast,
}
