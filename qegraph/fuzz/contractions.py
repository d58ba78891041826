"""Linears and convolutions over quantized weights, in all the spellings that exporters give them."""

from __future__ import annotations

from typing import Any

from qegraph.torch_names import aten

from .borders import read, weight
from .draft import Draft, Refused, Value


def _features(d: Draft) -> int:
    return d.rng.choice((1, 3, 4, 8, 16))


def _weight(d: Draft, *shape: int) -> Value:
    """A new one, or one that another layer has too (tied weights)."""
    known = d.weights.get(shape)
    if known is not None and d.chance(0.3):
        return known
    return d.weights.setdefault(shape, weight(d, *shape))


def _bias(d: Draft, n: int) -> Value | None:
    return d.constant(d.normal(n)) if d.chance(0.7) else None


def linear(d: Draft) -> Value:
    x = read(d, 1, 2, 3, 4)
    n = _features(d)
    return d.call(aten.linear.default, x, _weight(d, n, x.shape[-1]), _bias(d, n))


def addmm(d: Draft) -> Value:
    x = read(d, 2)
    n = _features(d)
    transposed = d.call(aten.permute.default, _weight(d, n, x.shape[-1]), [1, 0])
    bias = _bias(d, n)
    return d.call(aten.mm.default, x, transposed) if bias is None else d.call(aten.addmm.default, bias, x, transposed)


def viewed_mm(d: Draft) -> Value:
    """A linear of rank 3 as decomposition spells it."""
    x = read(d, 3)
    n = _features(d)
    rows = d.call(aten.view.default, x, [x.shape[0] * x.shape[1], x.shape[2]])
    product = d.call(aten.mm.default, rows, d.call(aten.t.default, _weight(d, n, x.shape[-1])))
    return d.call(aten.view.default, product, [x.shape[0], x.shape[1], n])


def matmul(d: Draft) -> Value:
    """Of two activations."""
    x = read(d, 2, 3)
    y = d.pick(lambda v: v.is_float and v.rank == x.rank and v.tensor.dtype == x.tensor.dtype)
    transposed = d.call(aten.transpose.int, y, -1, -2)
    return d.call(aten.matmul.default, x, transposed)


def _convolution(d: Draft, dims: int) -> Value:
    x = read(d, dims + 2)
    channels = x.shape[1]
    groups = d.rng.choice([g for g in (1, 1, 1, 2, channels) if channels and channels % g == 0] or [1])
    out = groups * d.rng.choice((1, 2, 4)) if groups > 1 else _features(d)
    if channels == 0 or out > 16:
        raise Refused
    kernel = [d.rng.choice((1, 2, 3)) for _ in range(dims)] if d.chance(0.3) else [d.rng.choice((1, 3))] * dims
    options: Any = {
        "stride": [d.rng.choice((1, 1, 2))] * dims,
        "padding": [d.rng.choice((0, 1, k // 2)) for k in kernel],
        "dilation": [d.rng.choice((1, 1, 1, 2))] * dims,
        "groups": groups,
    }
    w = _weight(d, out, channels // groups, *kernel)
    op = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)[dims - 1]
    if d.chance(0.3):
        given = (options["stride"], options["padding"], options["dilation"], False, [0] * dims, groups)
        return d.call(aten.convolution.default, x, w, _bias(d, out), *given)
    return d.call(op, x, w, _bias(d, out), *options.values())


def conv1d(d: Draft) -> Value:
    return _convolution(d, 1)


def conv2d(d: Draft) -> Value:
    return _convolution(d, 2)


def conv3d(d: Draft) -> Value:
    return _convolution(d, 3)


OPS = {each.__name__: each for each in (linear, addmm, viewed_mm, matmul, conv1d, conv2d, conv3d)}
