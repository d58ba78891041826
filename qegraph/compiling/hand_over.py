"""The optimised graph as Inductor is given it, and the settings it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph import borders
from qegraph.compiling.freeze import attributes_of
from qegraph.packing import HeldConstant, PackedWeight
from qegraph.report import Report
from qegraph.torch_names import quantized_decomposed

Settings = Mapping[str, Any]

_LARGE = 2**20
"""Bytes from which passing a constant on every call costs less than reading it once for its key."""


@dataclass(frozen=True)
class HandOver:
    """What Inductor compiles; `module` is its to change. `owners` must live as long as the compiled code does."""

    module: fx.GraphModule
    settings: Settings
    owners: tuple[Any, ...]


def hand_over(fast: fx.GraphModule, report: Report) -> HandOver:
    """`fast`, which isn't changed, with constants that Inductor sees as such.

    They are calls of an operator with a key that depends on their content, so graphs with the same code and other
    weights are different graphs. Inductor's own freezing is for weights of kernels that stay float: it packs them, and
    takes seconds. Nothing is kept on disk: packed weights can't be, and Inductor would find that out only after it has
    pickled everything else.
    """
    freezing = any(each.kind in ("linear", "conv") and not each.int8 for each in report.contractions)
    owners: list[Any] = [fast]
    graph, attributes = fx.Graph(), attributes_of(fast)
    copies: dict[fx.Node, fx.Node] = {}
    for node in fast.graph.nodes:
        owner = _owner(attributes.get(str(node.target)), freezing) if node.op in ("get_attr", "call_module") else None
        if owner is None:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        else:
            owners.append(owner)
            copies[node] = graph.call_function(torch.ops.qegraph.packed_weight.default, (owner.key,))
        copies[node].meta = {key: item for key, item in node.meta.items() if key not in ("val", "example_value")}
        if freezing and node.target in _ARITHMETIC:
            copies[node].target = _ARITHMETIC[node.target]
    module = fx.GraphModule(fast, graph, "Compiled")
    return HandOver(module, {"freezing": freezing, "fx_graph_cache": False}, tuple(owners))


def _owner(attribute: Any, freezing: bool) -> PackedWeight | HeldConstant | None:
    if isinstance(attribute, PackedWeight):
        return attribute
    if isinstance(attribute, torch.Tensor) and not freezing and attribute.nbytes <= _LARGE:
        return HeldConstant(attribute)
    return None


def _dequantize(
    x: torch.Tensor, scale: Any, zero_point: Any, *_: Any, out_dtype: torch.dtype | None = None
) -> torch.Tensor:
    return ((x.to(torch.float32) - zero_point) * scale).to(out_dtype or torch.float32)


_ARITHMETIC: Mapping[Any, Callable[..., Any]] = {
    borders.dequantize_per_tensor: _dequantize,
    quantized_decomposed.dequantize_per_tensor.default: _dequantize,
    quantized_decomposed.dequantize_per_tensor.tensor: _dequantize,
}
"""What is left dequantized is so for a reason; when Inductor freezes, its patterns would find the operators."""
