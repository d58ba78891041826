"""Views, permutations, broadcasts; and concatenation. The other rearrangements are in `rearrange`."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import cat, expand, move, permute, vec, view
from qegraph.ops.rearrange import emit_rearranged, rearrangement_cost
from qegraph.ops.table import Emission, Reading, means, reads, word
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten


@reads(
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.clone.default, aten.contiguous.default, aten.view_as.default, aten.ravel.default, aten.unflatten.int,
)  # fmt: skip
def read_view(reading: Reading, value: Value) -> Tensor:
    """All of these keep the elements and their row-major order; clone and contiguous keep the shape too."""
    return move(view(vec(*reading.dims(value.fake.shape))), reading.tensor(value.args[0]))


@reads(aten.permute.default)
def read_permute(reading: Reading, value: Value) -> Tensor:
    x, order = value.args
    return move(permute(vec(*(d % len(order) for d in order))), reading.tensor(x))


@reads(aten.transpose.int, aten.t.default, aten.swapaxes.default, aten.mT.default)
def read_transpose(reading: Reading, value: Value) -> Tensor:
    """t and mT swap the last two dims."""
    rank = len(reading.shape(value.args[0]))
    order = list(range(rank))
    if rank >= 2:
        first, second = value.args[1:] or (-2, -1)
        order[first], order[second] = order[second], order[first]
    return move(permute(vec(*order)), reading.tensor(value.args[0]))


@reads(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def read_expand(reading: Reading, value: Value) -> Tensor:
    return move(expand(vec(*reading.dims(value.fake.shape))), reading.tensor(value.args[0]))


@reads(aten.cat.default)
def read_cat(reading: Reading, value: Value) -> Tensor | None:
    """Nested to the left, so that concatenations with a common start share it."""
    operands, dim = value.args
    dtypes = {reading.dtype(each) for each in operands}
    ranks = {len(reading.shape(each)) for each in operands}
    if len(dtypes) != 1 or len(ranks) != 1 or 0 in ranks:
        return None
    result = reading.tensor(operands[0])
    for each in operands[1:]:
        result = cat(result, reading.tensor(each), dim % ranks.copy().pop())
    return result


@reads(aten.stack.default)
def read_stack(reading: Reading, value: Value) -> Tensor | None:
    """A concatenation along a new dim of size 1."""
    operands, dim = value.args
    if len({reading.dtype(each) for each in operands}) != 1:
        return None
    shape = list(reading.shape(operands[0]))
    dim %= len(shape) + 1
    row = view(vec(*shape[:dim], 1, *shape[dim:]))
    result = move(row, reading.tensor(operands[0]))
    for each in operands[1:]:
        result = cat(result, move(row, reading.tensor(each)), dim)
    return result


def _move_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """Views are nearly free. A shape with two unknown dims can only be emitted if its source is."""
    m: Data = node.args[0]
    operand = node.args[1].number
    if m.name == "Rearrange":
        return rearrangement_cost(snapshot, node, rates)
    unknown = m.name != "Permute" and sum(d < 0 for d in m.args[0]) > 1
    copies = m.name == "View" and any(snapshot.nodes[i].op == "Moved" for i in snapshot.classes[operand])
    return rates.view + (1e4 if unknown else 0.0) + (0.1 * rates.traffic(snapshot, node.eclass) if copies else 0.0)


@word("Moved", _move_cost, fresh=False)
def emit_move(emission: Emission, node: ENode) -> fx.Node:
    m: Data = node.args[0]
    if m.name == "Rearrange":
        return emit_rearranged(emission, node)
    x = emission.node(node.args[1].number)
    if m.name == "Permute":
        return emission.call(aten.permute.default, x, list(m.args[0]))
    if m.name == "View":
        return _viewed(emission, x, emission.snapshot.shape.get(node.args[1].number), m.args[0])
    return emission.call(aten.expand.default, x, emission.sizes(m.args[0]))


def _viewed(emission: Emission, x: Any, before: tuple[int, ...] | None, after: tuple[int, ...]) -> fx.Node:
    """As the emission of kernels spells it, which is read as a view in a result that is searched again: sizes that
    needn't be named aren't.
    """
    if before is None:  # of a value that a rule has made
        return emission.call(aten.reshape.default, x, emission.sizes(after))
    if (at := _one_more(before, after)) is not None:
        return emission.call(aten.unsqueeze.default, x, at)
    if (at := _one_more(after, before)) is not None:
        return emission.call(aten.squeeze.dim, x, at)
    if len(after) == 2 < len(before) and after[1] == before[-1] > 0:
        return emission.call(aten.reshape.default, x, [-1, after[1]])
    return emission.call(aten.reshape.default, x, emission.sizes(after))


def _one_more(few: tuple[int, ...], many: tuple[int, ...]) -> int | None:
    """Where `many` has a dim of size 1 that `few` hasn't: where a sequence that is an image has its height, or last."""
    places = [at for at in range(len(many)) if many[at] == 1 and many[:at] + many[at + 1 :] == few]
    height = len(many) - 2
    return height if height in places else places[-1] if places else None


def _part_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """A view; where it is a result, a copy."""
    is_result = node.eclass in snapshot.roots
    return rates.view + (rates.aten_call + 2 * rates.traffic(snapshot, node.eclass) if is_result else 0.0)


@word("Part", _part_cost, fresh=False)
def emit_part(emission: Emission, node: ENode) -> fx.Node:
    x, start, length = node.args
    return emission.call(aten.slice.Tensor, emission.node(x.number), -1, start, start + length)


def _joins_codes(snapshot: Snapshot, node: ENode) -> bool:
    """A constant of codes, joined once: as many bytes as its operands have."""
    constants = snapshot.constants.issuperset(node.children) and node.eclass not in snapshot.returned
    return constants and snapshot.dtype.get(node.eclass) == "int8"


def _cat_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """The left operand's bytes are already paid where it is itself a concatenation, and read by this one only: the
    chain is emitted as one.
    """
    left, right, dim = node.args[0].number, node.args[1].number, node.args[2]
    if _joins_codes(snapshot, node):
        return 0.0
    chain = (snapshot.nodes[i] for i in snapshot.classes[left])
    nested = left != right and any(each.op == "Cat" and each.args[2] == dim for each in chain)
    return 2 * rates.traffic(snapshot, right) + (0.1 if nested else rates.aten_call + 2 * rates.traffic(snapshot, left))


@word("Cat", _cat_cost)
def emit_cat(emission: Emission, node: ENode) -> fx.Node:
    """Joined with the concatenation on its left, unless that is needed anyway: two long rows copy faster than many."""
    if _joins_codes(emission.snapshot, node):
        return emission.buffer("joined", emission.constant(node.eclass))
    left = emission.node(node.args[0].number)
    right = emission.node(node.args[1].number)
    dim = node.args[2]
    joins = left.target is aten.cat.default and left.args[1] == dim and not emission.shared(node.args[0].number)
    if joins:
        return emission.call(aten.cat.default, [*left.args[0], right], dim)  # type: ignore[misc]
    return emission.call(aten.cat.default, [left, right], dim)


@means("Moved")
def moved(m: Data, x: Any) -> Any:
    """`Rearrange` is the source's own call: whoever evaluates a term knows that."""
    if x is None:
        return None
    target = {"Permute": aten.permute, "View": aten.reshape, "Expand": aten.expand}[m.name]
    return target.default(x, list(m.args[0]))


@means("Part")
def part_of(x: Any, start: int, length: int) -> Any:
    return x.narrow(-1, start, length)


@means("Cat")
def concatenated(x: Any, y: Any, dim: int) -> Any:
    return torch.cat([x, y], dim)
