"""Inputs, constants, numbers, what isn't there, and what isn't modelled."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qegraph.ops.table import Emission, emit_constant, free, means, one_pass, word
from qegraph.program import Ref, map_refs
from qegraph.snapshot import ClassRef, ENode
from qegraph.torch_names import dtype_of


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

    def operand(item: Any) -> Any:
        if not isinstance(item, Ref):
            return item
        reference: ClassRef = next(operands)
        return emission.node(reference.number)

    args, kwargs = map_refs((value.args, dict(value.kwargs)), operand)
    return emission.call((value, kwargs), *args)


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
