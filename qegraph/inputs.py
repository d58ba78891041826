"""Arguments of a graph, one for each of its placeholders: those of a call, or made from the placeholders' metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import FakeTensor, hint, pytree
from qegraph.cost import SYMBOLIC_SIZE
from qegraph.errors import CaptureError
from qegraph.program import Program

Inputs = Sequence[Any]
_CODES = (torch.uint8, torch.int8, torch.bool)


def inputs_of(program: Program, seed: int = 0, spread: float = 1.0, size: Callable[[Any], int] | None = None) -> Inputs:
    """Arguments like those the graph was captured with: normal floats of standard deviation `spread`, codes of the
    whole range, zeros for other integers, which may be indices.

    size  what a symbolic dim is; `SYMBOLIC_SIZE` by default, at which costs are estimated.

    The caller's random state plays no part, and stays what it is.
    """
    generator = torch.Generator().manual_seed(seed)
    size = size or (lambda _: SYMBOLIC_SIZE)
    return tuple(_argument(value.fake, generator, spread, size) for value in program.values if value.kind == "input")


def _argument(fake: Any, generator: torch.Generator, spread: float, size: Callable[[Any], int]) -> Any:
    if not isinstance(fake, torch.Tensor):
        return fake if fake is None or isinstance(fake, (bool, int, float, str)) else size(fake)
    shape = [d if type(d) is int else size(d) for d in fake.shape]
    if fake.dtype.is_floating_point:
        return (torch.randn(shape, generator=generator) * spread).to(fake.dtype)
    if fake.dtype in _CODES:
        return torch.randint(0, 256, shape, generator=generator).to(fake.dtype)
    return torch.zeros(shape, dtype=fake.dtype)


def hinted(size: Any) -> int:
    """What a symbolic dim was when the graph was exported: it satisfies the graph's checks of its inputs."""
    found = hint(size) if isinstance(size, torch.SymInt) else None
    return SYMBOLIC_SIZE if found is None else int(found)


def flat_inputs(graph: fx.Graph, inputs: Sequence[Any]) -> list[Any]:
    """The arguments of a call, flattened the way the graph's generated code does it, one per placeholder.

    Raises CaptureError for others than the graph takes.
    """
    placeholders = list(graph.find_nodes(op="placeholder"))
    names = [str(node.target) for node in placeholders]
    takes = f"the graph takes {len(names)}: {', '.join(names)}"
    if not isinstance(inputs, (list, tuple)):
        raise CaptureError(f"expected the arguments of a call, as in (x, y), got a {type(inputs).__name__}; {takes}")
    for flat in (list(inputs), pytree.tree_leaves(tuple(inputs)), list(graph.process_inputs(*inputs))):
        if len(flat) == len(placeholders):
            return flat
    raise CaptureError(f"the arguments of a call that were given have {len(inputs)} entries; {takes}")


def are_real(inputs: Sequence[Any]) -> bool:
    """Whether a graph can be run on them: none is a fake or meta tensor."""
    tensors = [each for each in pytree.tree_leaves(tuple(inputs)) if isinstance(each, torch.Tensor)]
    return not any(isinstance(each, FakeTensor) or each.device.type == "meta" for each in tensors)
