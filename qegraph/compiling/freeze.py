"""A graph traced by Dynamo with the state of its modules as constants."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph import _dynamo
from qegraph._torch import enter_autocast, exit_autocast


@dataclass(frozen=True)
class Frozen:
    """A graph without the inputs that are state.

    module     the rest of the inputs -> the same results. A surrounding autocast is part of the graph.
    kept       the positions of those inputs among the ones Dynamo gave.
    state      all tensors that were inputs.
    """

    module: fx.GraphModule
    kept: tuple[int, ...]
    state: tuple[torch.Tensor, ...]

    def inputs(self, args: Sequence[Any]) -> list[Any]:
        """The arguments of `module` among those of the graph it was made of."""
        return [args[position] for position in self.kept]


def freeze(gm: fx.GraphModule, inputs: Sequence[Any]) -> Frozen:
    """`gm`, which Dynamo gave with these inputs, is not changed."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    attributes = attributes_of(gm)
    placeholders = list(gm.graph.find_nodes(op="placeholder"))
    is_state = [_dynamo.is_state(node, each) for node, each in zip(placeholders, inputs, strict=True)]
    for node, held in zip(placeholders, is_state, strict=True):
        if not held:
            copies[node] = graph.node_copy(node)
    for node, held, tensor in zip(placeholders, is_state, inputs, strict=True):
        if held:
            copies[node] = graph.get_attr(_add(attributes, node.name, tensor))
    entered = enter_autocast(graph)
    for node in gm.graph.nodes:
        if node.op not in ("placeholder", "output"):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    if entered is not None:
        exit_autocast(graph, entered)
    graph.node_copy(gm.graph.output_node(), copies.__getitem__)
    kept = tuple(position for position, held in enumerate(is_state) if not held)
    state = tuple(tensor for tensor, held in zip(inputs, is_state, strict=True) if held)
    return Frozen(fx.GraphModule(attributes, graph, "Compiled"), kept, state)


def forget_state(gm: fx.GraphModule, inputs: Sequence[Any]) -> None:
    """Make constants of the inputs of `gm` that are state, for Dynamo: it then calls the compiled code without them."""
    placeholders = list(gm.graph.find_nodes(op="placeholder"))
    constants: dict[fx.Node, fx.Node] = {}
    for node, tensor in zip(placeholders, inputs, strict=True):
        if _dynamo.is_state(node, tensor):
            name = node.name
            while hasattr(gm, name):
                name += "_"
            _hold(gm, name, tensor)
            with gm.graph.inserting_after(placeholders[-1]):
                constants[node] = gm.graph.get_attr(name)
    _dynamo.make_constants(constants)
    gm.recompile()


def _hold(gm: fx.GraphModule, name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, torch.nn.Parameter):
        gm.register_parameter(name, tensor)
    else:
        gm.register_buffer(name, tensor)


def attributes_of(gm: fx.GraphModule) -> dict[str, Any]:
    """What the graph reads of its module, by name."""
    nodes = [node for node in gm.graph.nodes if node.op in ("get_attr", "call_module")]
    return {str(node.target): operator.attrgetter(str(node.target))(gm) for node in nodes}


def _add(attributes: dict[str, Any], name: str, tensor: torch.Tensor) -> str:
    while name in attributes:
        name += "_"
    attributes[name] = tensor
    return name
