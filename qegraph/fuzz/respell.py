"""The same program as exporters give it: with torch's own decompositions, or for any batch size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.export import Dim

from qegraph._torch import quantizer_decompositions
from qegraph.coverage.parts import core_decompositions
from qegraph.quiet import quiet

from .draft import Program

Spelling = Literal["", "decomposed", "written out", "any batch"]
"""As drawn; torch's core operators; those, and quantizers as what they compute; with a symbolic size of the batch."""


def respelled(program: Program, spelling: Spelling) -> fx.GraphModule:
    """A module of its own. Raises what `torch.export` raises."""
    if not spelling:
        return program.module
    batches = {}
    if spelling == "any batch":
        names = [str(node.target) for node in program.module.graph.nodes if node.op == "placeholder"]
        batches = {name: _dims(each) for name, each in zip(names, program.inputs, strict=True)}
    with quiet():
        exported = torch.export.export(program.module, program.inputs, dynamic_shapes=batches or None, strict=False)
        if spelling in ("decomposed", "written out"):
            table = core_decompositions()
            table |= quantizer_decompositions() if spelling == "written out" else {}
            exported = exported.run_decompositions(table)
        module = exported.module()
    assert isinstance(module, fx.GraphModule)
    return module


def _dims(x: Tensor) -> Mapping[int, Any] | None:
    """Torch takes sizes 0 and 1 as fixed, whatever it is asked."""
    return {0: Dim.AUTO} if x.dim() and x.shape[0] > 1 else None


def other_batches(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of other batch sizes that an exported module takes: one more, and twice as many and one."""
    fakes = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]
    symbolic = [isinstance(each, Tensor) and each.dim() > 0 and _is_free(each.shape[0]) for each in fakes]
    if not any(symbolic):
        return
    for size in (lambda n: n + 1, lambda n: 2 * n + 1):  # the same for equal sizes, whatever symbol they have
        grown = tuple(
            torch.cat([each] * 3)[: size(each.shape[0])].clone() if is_symbolic else each
            for each, is_symbolic in zip(inputs, symbolic, strict=True)
        )
        try:
            module(*(each.clone() for each in grown))
        except (AssertionError, RuntimeError):
            continue  # the export found that the program needs other sizes
        yield grown


def _is_free(size: int | torch.SymInt) -> bool:
    return isinstance(size, torch.SymInt)
