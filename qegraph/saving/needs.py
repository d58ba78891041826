"""What a saved module needs of the CPU it runs on, beyond what all have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from qegraph import native
from qegraph.kernels import ELEMENTWISE, FLOATS, adds_in_32_bits, elementwise_is_right, linear_adds, reads_float8
from qegraph.packing import PackedConv, PackedLinear
from qegraph.torch_names import onednn

_HERE: Mapping[str, tuple[Callable[[], bool], str]] = {
    "adds in 32 bits": (
        adds_in_32_bits,
        "int8 products that add in 32 bits (VNNI or AMX; ONEDNN_MAX_CPU_ISA may hide them): without, sums of two "
        "products saturate",
    ),
    "float8": (reads_float8, "oneDNN's float8 products"),
    **{
        f"adds {half}": (lambda half=half: linear_adds(half), f"oneDNN's int8 products that add {half}")
        for half in FLOATS[1:]
    },
    **{
        name: (lambda name=name: elementwise_is_right(name), f"a right onednn.{name}: this one fails its self-test")
        for name in ELEMENTWISE
    },
}
"""Need -> whether it is met here, and what it is, in words."""


_ADDING = (onednn.qlinear_pointwise.binary, onednn.qlinear_pointwise.binary_tensor)
_OTHER = 6
"""The position of the residual among the arguments of those."""


def _dtype(operand: Any) -> torch.dtype | None:
    """Of a node's value, where it or, for what was made dense while emitting, its operand says so."""
    while isinstance(operand, fx.Node):
        value = operand.meta.get("val")
        if isinstance(value, torch.Tensor):
            return value.dtype
        operand = operand.args[0] if operand.op == "call_function" and operand.args else None
    return None


def needs(module: fx.GraphModule) -> list[str]:
    """Those of the module that are met here. What it wasn't optimised to rely on, it doesn't need."""
    weights = [each.weight.dtype for each in module.modules() if isinstance(each, (PackedLinear, PackedConv))]
    graphs = [each.graph for each in module.modules() if isinstance(each, fx.GraphModule)]
    called = {node.target for graph in graphs for node in graph.nodes}
    added = {_dtype(node.args[_OTHER]) for graph in graphs for node in graph.nodes if node.target in _ADDING}
    used = {
        "adds in 32 bits": torch.int8 in weights or any(map(native.is_operator, called)),
        "float8": torch.float8_e4m3fn in weights,
        **{f"adds {half}": not added.isdisjoint((getattr(torch, half), None)) for half in FLOATS[1:]},
        **{name: getattr(onednn, name).tensor in called for name in ELEMENTWISE},
    }
    return [name for name, is_used in used.items() if is_used and _HERE[name][0]()]


def unmet(names: list[str]) -> list[str]:
    """Of the needs, those this CPU doesn't meet, in words; an unknown one is not met."""
    found: list[str] = []
    for name in names:
        is_met, words = _HERE.get(name, (lambda: False, f"{name}, which this version of qegraph doesn't know"))
        if not is_met():
            found.append(words)
    return found
