"""Which graphs by Dynamo are left to Inductor alone, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload

_NAMESPACES = frozenset({"quantized_decomposed", "torchao", "quantized", "onednn"})
_CODES = frozenset({torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2})


def is_quantized(gm: fx.GraphModule, inputs: Sequence[Any]) -> bool:
    """Whether the graph quantizes anything, or reads or holds what is."""
    if any(isinstance(node.target, OpOverload) and node.target.namespace in _NAMESPACES for node in gm.graph.nodes):
        return True
    return any(tensor.dtype in _CODES for tensor in _tensors(gm, inputs))


def needs_gradient(gm: fx.GraphModule, inputs: Sequence[Any]) -> str | None:
    """Why the graph is one of training, or None."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in _tensors(gm, inputs)):
        return (
            "gradients are enabled and an input or a parameter requires one, which int8 kernels don't give; "
            "call it under torch.no_grad() or torch.inference_mode(), or use model.requires_grad_(False)"
        )
    return None


def _tensors(gm: fx.GraphModule, inputs: Sequence[Any]) -> Iterator[torch.Tensor]:
    yield from (each for each in inputs if isinstance(each, torch.Tensor))
    yield from gm.parameters()
    yield from gm.buffers()
