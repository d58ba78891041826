"""Rearrangements: views, permutations, broadcasts; max-pooling and concatenation."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

from qegraph.cost import MACHINE, traffic
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import cat, expand, max_pool, move, permute, vec, view
from qegraph.ops.table import Emission, Reading, reads, word
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten


@reads(
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.clone.default, aten.contiguous.default,
)  # fmt: skip
def read_view(reading: Reading, value: Value) -> Tensor:
    """All of these keep the elements and their row-major order; clone and contiguous keep the shape too."""
    return move(view(vec(*reading.dims(value.fake.shape))), reading.tensor(value.args[0]))


@reads(aten.permute.default)
def read_permute(reading: Reading, value: Value) -> Tensor:
    x, order = value.args
    return move(permute(vec(*(d % len(order) for d in order))), reading.tensor(x))


@reads(aten.transpose.int, aten.t.default)
def read_transpose(reading: Reading, value: Value) -> Tensor:
    rank = len(reading.shape(value.args[0]))
    order = list(range(rank))
    if rank >= 2:
        first, second = value.args[1:] or (0, 1)
        order[first], order[second] = order[second], order[first]
    return move(permute(vec(*order)), reading.tensor(value.args[0]))


@reads(aten.expand.default)
def read_expand(reading: Reading, value: Value) -> Tensor:
    return move(expand(vec(*reading.dims(value.fake.shape))), reading.tensor(value.args[0]))


@reads(aten.max_pool2d.default)
def read_max_pool(reading: Reading, value: Value) -> Tensor | None:
    return _max_pool(reading, value.args)


@reads(operator.getitem)
def read_max_pool_result(reading: Reading, value: Value) -> Tensor | None:
    """Result 0 of the variant with indices."""
    source, index = value.args
    made = reading.value(source)
    return _max_pool(reading, made.args) if index == 0 and made.target is aten.max_pool2d_with_indices.default else None


def _max_pool(reading: Reading, args: tuple[Any, ...]) -> Tensor | None:
    x, kernel, stride, padding, dilation, ceil = args
    if not reading.dtype(x).is_floating_point or len(reading.shape(x)) != 4:
        return None
    size, step, border, spread = (vec(*_pair(each)) for each in (kernel, stride or kernel, padding, dilation))
    return max_pool(reading.tensor(x), size, step, border, spread, int(ceil))


def _pair(sizes: Any) -> tuple[int, ...]:
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    return tuple(sizes * 2) if len(sizes) == 1 else tuple(sizes)


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


def _move_cost(snapshot: Snapshot, node: ENode) -> float:
    """Views are nearly free. A shape with two unknown dims can only be emitted if its source is."""
    m: Data = node.args[0]
    unknown = m.name != "Permute" and sum(d < 0 for d in m.args[0]) > 1
    copies = m.name == "View" and any(snapshot.nodes[i].op == "Moved" for i in snapshot.classes[node.children[0]])
    return MACHINE.view + (1e4 if unknown else 0.0) + (0.1 * traffic(snapshot, node.eclass) if copies else 0.0)


@word("Moved", _move_cost, fresh=False)
def emit_move(emission: Emission, node: ENode) -> fx.Node:
    m: Data = node.args[0]
    x = emission.node(node.args[1].number)
    if m.name == "Permute":
        return emission.call(aten.permute.default, x, list(m.args[0]))
    target = aten.reshape.default if m.name == "View" else aten.expand.default
    return emission.call(target, x, emission.sizes(m.args[0]))


def _pool_cost(snapshot: Snapshot, node: ENode) -> float:
    kernel: tuple[int, ...] = node.args[1]
    if snapshot.dtype.get(node.eclass) == "int8":
        return math.inf  # no kernel
    return (
        MACHINE.aten_call + traffic(snapshot, node.eclass) * (kernel[0] * kernel[1]) + traffic(snapshot, *node.children)
    )


@word("MaxPool", _pool_cost)
def emit_max_pool(emission: Emission, node: ENode) -> fx.Node:
    """Codes need the quantized kernel: the plain one counts the positions of uint8 inputs in 8 bits."""
    x, *windows, ceil = node.args
    codes = emission.snapshot.dtype.get(node.eclass) == "uint8"
    target = torch.ops.quantized.max_pool2d.default if codes else aten.max_pool2d.default
    return emission.call(target, emission.node(x.number), *(list(each) for each in windows), bool(ceil))


def _cat_cost(snapshot: Snapshot, node: ENode) -> float:
    """The left operand's bytes are already paid where it is itself a concatenation: the chain is emitted as one."""
    left, right = node.args[0].number, node.args[1].number
    nested = any(snapshot.nodes[i].op == "Cat" for i in snapshot.classes[left])
    return 2 * traffic(snapshot, right) + (0.1 if nested else MACHINE.aten_call + 2 * traffic(snapshot, left))


@word("Cat", _cat_cost)
def emit_cat(emission: Emission, node: ENode) -> fx.Node:
    """Joined with the concatenation on its left, which falls away if nothing else reads it."""
    left = emission.node(node.args[0].number)
    right = emission.node(node.args[1].number)
    dim = node.args[2]
    if left.target is aten.cat.default and left.args[1] == dim:
        return emission.call(aten.cat.default, [*left.args[0], right], dim)  # type: ignore[misc]
    return emission.call(aten.cat.default, [left, right], dim)
