"""Dynamo's graphs call functions of torch as the model does; rules are about operators."""

from __future__ import annotations

import operator

import torch
from torch import fx

from qegraph._torch import OpOverload, pytree, sets_autocast
from qegraph.capture_fake import FakeRunner
from qegraph.capture_retrace import retrace
from qegraph.errors import Unsupported


def operators(module: fx.GraphModule) -> fx.GraphModule:
    """`module` with operators only, traced again unless it has no others; it isn't changed, constants are shared.

    Raises Unsupported for a graph that writes to its inputs or constants, that can't be traced, or that has both
    autocast and dynamic shapes: tracing its casts would fix the shapes, against what Dynamo guards.
    """
    if any(sets_autocast(node.target) for node in module.graph.nodes) and _is_dynamic(module):
        raise Unsupported("autocast with dynamic shapes; compile with dynamic=False, or call it without autocast")
    other = next((node for node in module.graph.nodes if _is_function(node)), None)
    if other is None:
        return module
    fakes = FakeRunner(module.graph, None)
    with fakes.running():
        return retrace(module, fakes, f"node '{other.name}' calls {other.target}, which is no operator").module


def _is_dynamic(module: fx.GraphModule) -> bool:
    examples = (node.meta.get("example_value") for node in module.graph.find_nodes(op="placeholder"))
    return any(isinstance(each, torch.SymInt) for each in examples)


def _is_function(node: fx.Node) -> bool:
    """A call of something else than an operator that gives tensors; what computes sizes may stay."""
    if node.op not in ("call_function", "call_method") or isinstance(node.target, OpOverload):
        return False
    results = pytree.tree_leaves(node.meta.get("example_value"))
    return node.target is not operator.getitem and any(isinstance(each, torch.Tensor) for each in results)
