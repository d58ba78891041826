"""The optimised graph as Inductor is given it, and the settings it needs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph import borders
from qegraph.compiling.constants import hold
from qegraph.compiling.freeze import attributes_of
from qegraph.packing import PackedWeight
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

    Inductor's own freezing is for weights of kernels that stay float: it packs them, and takes seconds. Nothing is kept
    on disk: packed weights can't be, and Inductor would find that out only after it has pickled everything else.
    """
    freezing = any(each.kind in ("linear", "conv") and not each.int8 for each in report.contractions)
    attributes = {name: each for name, each in attributes_of(fast).items() if _is_held(each, freezing)}
    constants, numbers = hold(list(attributes.values())), {name: number for number, name in enumerate(attributes)}
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    held: fx.Node | None = None
    for node in fast.graph.nodes:
        if node.op != "placeholder" and held is None and numbers:
            held = graph.call_function(torch.ops.qegraph.constants.default, (constants.key,))
        if node.op in ("get_attr", "call_module") and node.target in numbers:
            copies[node] = graph.call_function(operator.getitem, (held, numbers[node.target]))
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        copies[node].meta = {key: item for key, item in node.meta.items() if key not in ("val", "example_value")}
        if freezing and node.target in _ARITHMETIC:
            copies[node].target = _ARITHMETIC[node.target]
    module = fx.GraphModule(fast, graph, "Compiled")
    return HandOver(module, {"freezing": freezing, "fx_graph_cache": False}, (fast, constants))


def _is_held(attribute: Any, freezing: bool) -> bool:
    if isinstance(attribute, PackedWeight):
        return True
    return isinstance(attribute, torch.Tensor) and not freezing and attribute.nbytes <= _LARGE


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
