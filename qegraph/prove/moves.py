"""Rearrangements that only the source's own call knows: slices, flips, rolls, gathers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from qegraph.lang.terms import Move, Tensors
from qegraph.lang.vocabulary import rearrange
from qegraph.program import Ref, Value, map_refs
from qegraph.torch_names import aten

if TYPE_CHECKING:
    from qegraph.prove.sampler import Sampler, Shape


def stretch(sampler: Sampler, shape: Shape) -> Move:
    """A part of the last dim."""
    start = sampler.random.randrange(max(1, shape[-1]))
    stop = sampler.random.randint(start, shape[-1])
    return _called(sampler, shape, aten.slice.Tensor, (len(shape) - 1, start, stop, 1))


def call(sampler: Sampler, shape: Shape) -> Move:
    """Any of them, on an operand of this shape."""
    dim = sampler.random.randrange(len(shape))
    size = shape[dim]
    start = sampler.random.randrange(size) if size else 0
    target, rest = sampler.pick(
        (aten.slice.Tensor, (dim, start, size, 1)),
        (aten.slice.Tensor, (dim, start, max(start, size - 1), 1)),
        (aten.slice.Tensor, (dim, 0, size, 2)),
        (aten.flip.default, ([dim],)),
        (aten.roll.default, ([1], [dim])),
    )
    return _called(sampler, shape, target, rest)


def _called(sampler: Sampler, shape: Shape, target: Any, rest: tuple[Any, ...]) -> Move:
    """As `qegraph.ops.rearrange` reads it: its uid is the index of its value."""
    index = next(sampler.indices)
    fake = torch.empty(shape, device="meta")
    value = Value(index, "call", target, (Ref(-1), *rest), {}, fake, f"moved_{index}", {})
    sampler.calls[index] = value
    sampler.moves[index] = lambda x: _again(value, x)
    return rearrange(str(target), index, Tensors("vec-empty", ()))


def _again(value: Value, x: Any) -> Any:
    return value.target(*map_refs(value.args, lambda item: x if isinstance(item, Ref) else item))
