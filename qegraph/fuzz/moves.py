"""Ops that move values about: views, parts, joins, padding; on floats and on codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qegraph.torch_names import aten

from .draft import Draft, Refused, Value

Op = Callable[[Draft], Value]


def _some(d: Draft, least: int = 1, most: int = 5) -> Value:
    return d.pick(lambda v: least <= v.rank <= most)


def _dim(d: Draft, x: Value) -> int:
    dim = d.rng.randrange(x.rank)
    return dim - x.rank if d.chance(0.3) else dim


def _factored(d: Draft, x: Value) -> list[int]:
    """Another shape of as many elements: two dims joined, or one split."""
    shape = list(x.shape)
    at = d.rng.randrange(x.rank)
    if x.rank > 1 and (at + 1 < x.rank) and (x.rank >= 5 or d.chance(0.5)):
        return [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
    divisors = [k for k in (1, 2, 3, 4) if shape[at] % k == 0]
    part = d.rng.choice(divisors or [1])
    if x.rank >= 5:
        raise Refused
    return [*shape[:at], shape[at] // part, part, *shape[at + 1 :]]


def _moved(op: Any, least: int, most: int, arguments: Callable[[Draft, Value], tuple[Any, ...]]) -> Op:
    """A call on any value; codes stay codes of the same parameters."""

    def make(d: Draft) -> Value:
        x = _some(d, least, most)
        return d.call(op, x, *arguments(d, x), qp=x.qp)

    return make


def _shape(d: Draft, x: Value) -> tuple[Any, ...]:
    return (_factored(d, x),)


def _order(d: Draft, x: Value) -> tuple[Any, ...]:
    order = list(range(x.rank))
    d.rng.shuffle(order)
    return (order,)


def _two_dims(d: Draft, x: Value) -> tuple[Any, ...]:
    return _dim(d, x), _dim(d, x)


def _range(d: Draft, x: Value) -> tuple[Any, ...]:
    start, end = sorted((d.rng.randrange(x.rank), d.rng.randrange(x.rank)))
    return start, end


def _one_dim(d: Draft, x: Value) -> tuple[Any, ...]:
    return (_dim(d, x),)


def _window(d: Draft, x: Value) -> tuple[Any, ...]:
    dim = _dim(d, x)
    size = x.shape[dim]
    start = d.rng.randint(0, max(0, size - 1))
    return dim, start, d.rng.randint(start + 1, size + 1), d.rng.choice((1, 1, 2))


def _place(d: Draft, x: Value) -> tuple[Any, ...]:
    dim = _dim(d, x)
    if not x.shape[dim]:
        raise Refused
    return dim, d.rng.randrange(x.shape[dim])


def _larger(d: Draft, x: Value) -> tuple[Any, ...]:
    shape = [d.rng.choice((1, 2, 3)) if size == 1 else size for size in x.shape]
    return ([*([2] if x.rank < 4 and d.chance(0.3) else []), *shape],)


def _dims(d: Draft, x: Value) -> tuple[Any, ...]:
    return (d.rng.sample(range(x.rank), d.rng.randint(1, min(2, x.rank))),)


def _padding(d: Draft, x: Value) -> Value:
    count = d.rng.randint(1, min(2, x.rank))
    amounts = [d.rng.choice((0, 1, 1, 2)) for _ in range(2 * count)]
    fill = d.rng.choice((0, 0.0, 0.5))
    if x.qp is not None:
        fill = d.rng.choice((x.qp.zp, 0))
    return d.call(aten.constant_pad_nd.default, x, amounts, fill, qp=x.qp)


def _pad(d: Draft) -> Value:
    return _padding(d, _some(d))


def _cat(d: Draft) -> Value:
    x = _some(d)
    dim = _dim(d, x)
    rest = [size for at, size in enumerate(x.shape) if at != dim % x.rank]

    def fits(y: Value) -> bool:
        if y.rank != x.rank or y.tensor.dtype != x.tensor.dtype or y.qp != x.qp:
            return False
        return [size for at, size in enumerate(y.shape) if at != dim % x.rank] == rest

    others = [y for y in d.pool if fits(y)]
    parts = [x, *(d.rng.choice(others) for _ in range(d.rng.randint(1, 2)))]
    d.rng.shuffle(parts)
    return d.call(aten.cat.default, parts, dim, qp=x.qp)


def _parts(op: Any, argument: Callable[[Draft, int], Any]) -> Op:
    """Several parts, of which all join the pool."""

    def make(d: Draft) -> Value:
        x = _some(d)
        dim = _dim(d, x)
        if x.shape[dim] < 2:
            raise Refused
        node = d.call_many(op, x, argument(d, x.shape[dim]), dim)
        *others, last = [Value(*_item(d, node, at), x.qp) for at in range(len(node.meta["value"]))]
        d.pool += others
        return last

    return make


def _item(d: Draft, node: Any, at: int) -> tuple[Any, Any]:
    item = d.item(node, at)
    return item.node, item.tensor


def _uneven(d: Draft, size: int) -> list[int]:
    first = d.rng.randint(1, size - 1)
    return [first, size - first]


OPS: dict[str, Op] = {
    "view": _moved(aten.view.default, 1, 5, _shape),
    "reshape": _moved(aten.reshape.default, 1, 5, _shape),
    "permute": _moved(aten.permute.default, 1, 5, _order),
    "transpose": _moved(aten.transpose.int, 2, 5, _two_dims),
    "flatten": _moved(aten.flatten.using_ints, 1, 5, _range),
    "unsqueeze": _moved(aten.unsqueeze.default, 1, 4, _one_dim),
    "squeeze": _moved(aten.squeeze.dim, 2, 5, _one_dim),
    "slice": _moved(aten.slice.Tensor, 1, 5, _window),
    "select": _moved(aten.select.int, 2, 5, _place),
    "expand": _moved(aten.expand.default, 1, 5, _larger),
    "flip": _moved(aten.flip.default, 1, 5, _dims),
    "pad": _pad,
    "cat": _cat,
    "split": _parts(aten.split.Tensor, lambda d, size: max(1, size // 2)),
    "split-sizes": _parts(aten.split_with_sizes.default, _uneven),
    "chunk": _parts(aten.chunk.default, lambda d, size: 2),
}
