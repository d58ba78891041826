"""Ops over windows and dims: pooling, means, softmax, norms."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qegraph.torch_names import aten

from .draft import Draft, Value


def _max_pool(d: Draft) -> Value:
    """Of floats or of codes: torch has kernels for both."""
    x = d.pick(lambda v: v.rank == 4 and v.tensor.dtype in (torch.float32, torch.uint8, torch.int8))
    k = d.rng.choice((2, 3))
    return d.call(
        aten.max_pool2d.default, x, [k, k], [d.rng.choice((1, 2, k))] * 2, [d.rng.choice((0, 1))] * 2, qp=x.qp
    )


def _average_pool(d: Draft) -> Value:
    k = d.rng.choice((2, 3))
    options = (False, d.chance(0.7)) if d.chance(0.5) else ()
    return d.call(
        aten.avg_pool2d.default, d.floats(4), [k, k], [d.rng.choice((1, 2))] * 2, [d.rng.choice((0, 1))] * 2, *options
    )


def _adaptive_pool(d: Draft) -> Value:
    return d.call(aten.adaptive_avg_pool2d.default, d.floats(4), [d.rng.choice((1, 1, 2))] * 2)


def _mean(d: Draft) -> Value:
    x = d.floats(2, 3, 4, 5)
    dims = d.rng.sample(range(-x.rank, 0), d.rng.randint(1, 2))
    return d.call(aten.mean.dim, x, dims, d.chance(0.5))


def _sum(d: Draft) -> Value:
    x = d.floats(2, 3, 4)
    return d.call(aten.sum.dim_IntList, x, [d.rng.randrange(x.rank)], d.chance(0.5))


def _softmax(d: Draft) -> Value:
    x = d.floats(1, 2, 3, 4)
    return d.call(aten.softmax.int, x, d.rng.choice((-1, -1, 0)))


def _layer_norm(d: Draft) -> Value:
    x = d.floats(2, 3, 4)
    n = x.shape[-1]
    affine = (d.constant(d.normal(n)), d.constant(d.normal(n))) if d.chance(0.7) else ()
    return d.call(aten.layer_norm.default, x, [n], *affine)


def _batch_norm(d: Draft) -> Value:
    x = d.floats(2, 3, 4, 5)
    n = x.shape[1]
    gain, shift, mean = (d.constant(d.normal(n)) for _ in range(3))
    variance = d.constant(torch.rand(n, generator=d.generator) + 0.3)
    return d.call(aten.batch_norm.default, x, gain, shift, mean, variance, False, 0.1, 1e-5, False)


OPS: dict[str, Callable[[Draft], Value]] = {
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "sum": _sum,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
}
