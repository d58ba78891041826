"""Inputs, constants, numbers, what isn't there, and what isn't modelled."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload
from qegraph.ops.table import Emission, emit_constant, free, means, one_pass, word
from qegraph.program import Ref, Value, map_refs
from qegraph.snapshot import ClassRef, ENode
from qegraph.torch_names import aten, dtype_of


@word("Leaf", free, fresh=False)
def emit_leaf(emission: Emission, node: ENode) -> fx.Node:
    """Placeholders stand already; constants are fetched where they are first needed."""
    return emission.node(node.eclass)


@word("Scalar", free, fresh=False)
def emit_scalar(emission: Emission, node: ENode) -> Any:
    return node.args[0]


@word("Nothing", free, fresh=False)
def emit_nothing(emission: Emission, node: ENode) -> Any:
    return None


word("Filled", free, fresh=False)(emit_constant)


word("Joined", free, fresh=False)(emit_constant)


word("Cut", free, fresh=False)(emit_constant)


@word("Opaque", one_pass, fresh=False)  # it has no alternative: only sharing matters
def emit_opaque(emission: Emission, node: ENode) -> fx.Node:
    """The source node again, unchanged, reading what its operands have become."""
    value = emission.value(node.args[0])
    operands = iter(node.args[1])
    lay = _laid_out if reads_by_place(value.target) else _in_rows if _counts_in_codes(value) else _as_it_is

    def operand(item: Any) -> Any:
        if not isinstance(item, Ref):
            return item
        reference: ClassRef = next(operands)
        return lay(emission, reference.number, item)

    args, kwargs = map_refs((value.args, dict(value.kwargs)), operand)
    return emission.call((value, kwargs), *args)


_BY_PLACE = frozenset(
    {
        aten.as_strided.default,
        aten.as_strided_copy.default,
        aten.view_as_complex.default,
        aten.view.dtype,
        aten._weight_int8pack_mm.default,
        aten._weight_int4pack_mm_for_cpu.default,
    }
)
_POOLS = frozenset(
    {
        aten.max_pool2d.default,
        aten.max_pool2d_with_indices.default,
        aten.max_pool3d.default,
        aten.max_pool3d_with_indices.default,
    }
)
_CODES = (torch.int8, torch.uint8, torch.int16)
_PAIRING = ("onednn::qadd", "onednn::qmul")
_BY_INDEX = ("aten", "prims", "quantized_decomposed", "quantized", "qegraph", "onednn")
"""Namespaces of operators whose results don't depend on strides, but for those above."""


def reads_by_place(target: Any) -> bool:
    """The operator may look at how its operands lie in memory, of which the e-graph knows nothing."""
    if not isinstance(target, OpOverload):
        return False
    return target in _BY_PLACE or target.name().startswith(_PAIRING) or target.namespace not in _BY_INDEX


def _counts_in_codes(value: Value) -> bool:
    """Torch's max pools count the positions of a channels-last image in its dtype, and raise for one too large."""
    fake: Any = value.fake
    return value.target in _POOLS and (fake[0] if isinstance(fake, (tuple, list)) else fake).dtype in _CODES


def _in_rows(emission: Emission, eclass: int, item: Ref) -> Any:
    """Not channels-last, whatever the strides of dims of size 1, which `contiguous` minds as little as they matter."""
    node, rows = emission.node(eclass), {"memory_format": torch.contiguous_format}
    is_copy = node.target is aten.clone.default and node.kwargs == rows
    if node.op != "call_function" or is_copy or emission.dense(eclass, channels_last=False):
        return node
    return emission.call((aten.clone.default, rows), node)


def _as_it_is(emission: Emission, eclass: int, item: Ref) -> Any:
    return emission.node(eclass)


def _laid_out(emission: Emission, eclass: int, item: Ref) -> Any:
    """What is dense in the source, because some call made it so, is dense here."""
    made, node = emission.value(item.index), emission.node(eclass)
    fake = made.fake
    if made.kind != "call" or not isinstance(fake, torch.Tensor) or fake.layout != torch.strided:
        return node
    copied = made.target is aten.clone.default
    asked = copied or made.target is aten.contiguous.default
    if any(isinstance(each, torch.SymInt) for each in (*fake.shape, *fake.stride())):
        return emission.call((made, made.kwargs), node, *made.args[1:]) if asked else node
    for layout in (torch.contiguous_format, torch.channels_last)[: 2 if fake.dim() == 4 else 1]:
        if fake.is_contiguous(memory_format=layout):
            if not asked and emission.dense(eclass, layout is torch.channels_last):
                return node
            if copied or fake.shape[-1:] == (1,):  # for torch, a single column is contiguous whatever its stride
                return emission.call((aten.clone.default, {"memory_format": layout}), node)
            options = {} if layout is torch.contiguous_format else {"memory_format": layout}
            return emission.call((aten.contiguous.default, options), node)
    return node


# -- meaning -----------------------------------------------------------------------------------------------------------


@means("Scalar")
def number(value: float) -> float:
    return value


@means("Nothing")
def missing() -> None:
    return None


@means("Filled")
def full(shape: Any, value: int, dtype: str) -> torch.Tensor:
    return torch.full(shape, value, dtype=dtype_of(dtype))


@means("Joined")
def joined_constants(x: Any, y: Any, n: int, m: int) -> Any:
    if x is None and y is None:
        return None
    halves = (torch.zeros(length) if half is None else half for half, length in ((x, n), (y, m)))
    return torch.cat(list(halves))


@means("Cut")
def cut_constant(x: Any, start: int, length: int) -> Any:
    return None if x is None else x.narrow(0, start, length)
