"""Rearrangements rules need to know no more of than that they are: slices, flips, gathers, shuffles; and padding.

They are emitted by making the source's own call on another operand, so that their attributes never enter the e-graph.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates
from qegraph.lang.terms import Move, Tensor, Tensors
from qegraph.lang.vocabulary import move, pad, rearrange, vec
from qegraph.ops.table import Emission, Reading, means, one_pass, reads, reads_parts_of, val, word
from qegraph.program import Ref, Value, map_refs, operands
from qegraph.snapshot import ENode, Snapshot
from qegraph.torch_names import aten

_VIEWS = (
    aten.slice.Tensor, aten.select.int, aten.narrow.default, aten.diagonal.default, aten.unfold.default,
    aten.movedim.int, aten.movedim.intlist,
)  # fmt: skip
_PARTS = (
    aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
    aten.tensor_split.sections, aten.tensor_split.indices,
)  # fmt: skip
_COPIES = (
    aten.flip.default, aten.roll.default, aten.rot90.default, aten.repeat.default, aten.tile.default,
    aten.repeat_interleave.self_int, aten.pixel_shuffle.default, aten.pixel_unshuffle.default,
    aten.channel_shuffle.default, aten.native_channel_shuffle.default,
    aten.reflection_pad1d.default, aten.reflection_pad2d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default,
)  # fmt: skip
_GATHERS = (aten.index_select.default, aten.gather.default, aten.index.Tensor, aten.embedding.default)
_UPSAMPLES = (
    aten.upsample_nearest1d.vec, aten.upsample_nearest1d.default,
    aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default,
    aten.upsample_nearest3d.vec, aten.upsample_nearest3d.default,
    aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact2d.default,
)  # fmt: skip
"""They have kernels for floats and uint8, not for int8."""

_CUTS: dict[Any, int] = {
    aten.slice.Tensor: 1,
    aten.narrow.default: 1,
    **{target: 2 for target in _PARTS if target is not aten.unbind.int},
}
"""Operators that cut a dim, and which of their arguments says the dim."""

_ARE_VIEWS = {str(target) for target in (*_VIEWS, *_PARTS)}
_NOT_FOR_INT8 = {str(target) for target in _UPSAMPLES}


@reads(*_VIEWS, *_COPIES)
def read_rearranged(reading: Reading, value: Value) -> Tensor:
    return _rearranged(reading, value, operands(value))


@reads_parts_of(*_PARTS)
def read_part(reading: Reading, value: Value) -> Tensor:
    """One part of a tensor that is split; `value` picks it from the call that splits."""
    made = reading.value(value.args[0])
    return _rearranged(reading, made, operands(made), part=value)


@reads(*_UPSAMPLES)
def read_upsample(reading: Reading, value: Value) -> Tensor | None:
    return None if reading.dtype(value.args[0]) == torch.int8 else read_rearranged(reading, value)


@reads(*_GATHERS)
def read_gather(reading: Reading, value: Value) -> Tensor | None:
    """Not by masks: how many elements those pick depends on data."""
    masks = (torch.bool, torch.uint8)
    indices = (Ref(index) for index in operands(value)[1:])
    return None if any(reading.dtype(each) in masks for each in indices) else read_rearranged(reading, value)


@reads(aten.pad.default, aten.constant_pad_nd.default)
def read_pad(reading: Reading, value: Value) -> Tensor | None:
    """Other modes than "constant" put copies of elements around the operand."""
    x, amounts, *mode, fill = value.args
    if mode not in ([], ["constant"]):
        return read_rearranged(reading, value)
    if not all(isinstance(each, int) for each in amounts) or not isinstance(fill, (int, float, type(None))):
        return None
    return pad(reading.tensor(x), vec(*amounts), float(fill or 0.0))


def _rearranged(reading: Reading, call: Value, reads: tuple[int, ...], part: Value | None = None) -> Tensor:
    """The first operand is the one that is rearranged; the others (indices, symbolic sizes) say how."""
    first, *others = (reading.tensor(Ref(index)) for index in reads)
    uid = reading.call_id(call, part)
    rest = Tensors("vec-of", tuple(others)) if others else Tensors("vec-empty", ())
    m = rearrange(str(call.target), uid, rest)
    if not others:
        note_stretch(reading, m, call, part)
    return move(m, first)


def note_stretch(reading: Reading, m: Move, call: Value, part: Value | None) -> None:
    """Where the result starts in the last dim, if it is a stretch of that: torch itself cuts a row of numbers."""
    shape, position = reading.shape(call.args[0]), _CUTS.get(call.target)
    if position is None or not shape or shape[-1] < 0 or call.args[position] % len(shape) != len(shape) - 1:
        return
    rest = list(call.args[1:])
    rest[position - 1] = 0
    made = call.target(torch.arange(shape[-1], device="cpu"), *rest)
    kept: list[int] = (made if part is None else made[part.args[1]]).tolist()
    if kept and kept == list(range(kept[0], kept[0] + len(kept))):
        reading.fact("stretch", m, shape, value=kept[0])


def rearrangement_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    name = node.args[0].args[0]
    if name in _NOT_FOR_INT8 and snapshot.dtype.get(node.eclass) == "int8":
        return math.inf
    if name in _ARE_VIEWS:
        return rates.view
    if snapshot.dtype.get(node.eclass) == "float8_e4m3fn":
        return math.inf  # few of them have a kernel
    return rates.aten_call + rates.traffic(snapshot, node.eclass, node.args[1].number)


def emit_rearranged(emission: Emission, node: ENode) -> fx.Node:
    """The source's call again; parts of one operand share the call that splits it."""
    _, uid, others = node.args[0].args
    x = emission.node(node.args[1].number)
    value = emission.value(uid)
    if value.target is not operator.getitem:
        return _again(emission, value, [x, *(emission.node(each.number) for each in others)])
    split = _again(emission, emission.value(value.args[0].index), [x, *(emission.node(each.number) for each in others)])
    return emission.call(operator.getitem, split, value.args[1])


def _again(emission: Emission, value: Value, nodes: list[fx.Node]) -> fx.Node:
    left = iter(nodes)
    args, kwargs = map_refs(
        (value.args, dict(value.kwargs)), lambda item: next(left) if isinstance(item, Ref) else item
    )
    if value.target in _PARTS:
        for user in nodes[0].users:
            if user.target is value.target and user.args == args:
                return user
    return emission.call((value, kwargs), *args)


@word("Pad", one_pass)
def emit_pad(emission: Emission, node: ENode) -> fx.Node:
    x, amounts, value = node.args
    fill: Any = value if "float" in emission.snapshot.dtype[node.eclass] else int(value)
    return emission.call(aten.constant_pad_nd.default, emission.node(x.number), list(amounts), fill)


@means("Pad")
def padded(x: Any, amounts: Any, value: float) -> Any:
    fill: Any = value if val(x).dtype.is_floating_point else int(value)
    return aten.constant_pad_nd.default(x, list(amounts), fill)
