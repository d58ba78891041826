"""Functionalization by tracing again: for in-place writes that renaming can't express (writes through views)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph._torch import (
    OpOverload,
    codegen_of,
    is_guards_module,
    is_mutated,
    sets_autocast,
    signature,
    trace_functional,
    traced_name,
)
from qegraph.capture_call import schema_arguments, where
from qegraph.capture_fake import FakeRunner
from qegraph.capture_fold import is_dropout_off
from qegraph.errors import Unsupported


@dataclass(frozen=True)
class Retraced:
    """A functional copy of a graph. `names`: source node name -> name of the node that computes it now."""

    module: fx.GraphModule
    names: Mapping[str, str]


def retrace(module: fx.GraphModule, fakes: FakeRunner, reason: str) -> Retraced:
    """`module` without in-place operators, parameters and buffers shared with it.

    Raises `Unsupported` when the graph writes to an input, parameter or buffer, or can't be traced.
    """
    constants = _constants(module)
    placeholders = list(module.graph.find_nodes(op="placeholder"))
    targets = [f"the constant '{name}'" for name in constants]
    targets += [f"the input '{node.target}'" for node in placeholders]
    names: dict[str, str] = {}

    def function(*flat: Any) -> Any:
        lifted = dict(zip(constants, flat, strict=False))
        tracer = _Tracer(module, lifted, list(zip(targets, flat, strict=True)), names)
        return tracer.run(*flat[len(constants) :], enable_io_processing=False)

    inputs = [_traceable(fakes.constant(tensor)) for tensor in constants.values()]
    inputs += [_traceable(fakes.input(node)) for node in placeholders]
    try:
        traced = trace_functional(function, inputs, pre_dispatch=True)
        if any(sets_autocast(node.target) for node in traced.graph.nodes):
            names.clear()
            traced = trace_functional(function, inputs, pre_dispatch=False)  # the casts themselves
    except Unsupported:
        raise
    except Exception as error:
        message = f"{reason}, and the graph can't be functionalized: {type(error).__name__}: {error}"
        raise Unsupported(message) from error
    return _restored(module, traced, constants, placeholders, fakes, names)


class _Tracer(fx.Interpreter):
    """Runs the graph on recording tensors and refuses writes the caller would see."""

    def __init__(
        self,
        module: fx.GraphModule,
        lifted: Mapping[str, Any],
        visible: Sequence[tuple[str, Any]],
        names: dict[str, str],
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would be added to our messages
        self.lifted = lifted
        self.visible = visible
        self.names = names

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if _may_write(n):
            for description, tensor in self.visible:
                if is_mutated(tensor):
                    raise Unsupported(f"{where(n)} writes to {description}: the caller would see it")
        name = traced_name(result)
        if name is not None and n.op != "output":
            self.names[n.name] = name
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(target, OpOverload):
            ordered = schema_arguments(target, args, kwargs)
            if is_dropout_off(target, ordered):
                return ordered[0]  # tracing would make it a copy, which doesn't see later writes
        return super().call_function(target, args, kwargs)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.lifted[target] if target in self.lifted else super().get_attr(target, args, kwargs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_guards_module(self.submodules[target]):
            return None
        raise Unsupported(f"in-place writes to views beside a call of sub-module '{target}', which may keep either")


def _traceable(fake: Any) -> Any:
    """Inference tensors can't be wrapped for tracing; a fake clone, which costs nothing, can."""
    return fake.clone() if isinstance(fake, torch.Tensor) and fake.is_inference() else fake


def _may_write(node: fx.Node) -> bool:
    return not isinstance(node.target, OpOverload) or bool(signature(node.target).written)


def _constants(module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """The parameters and buffers the graph reads, by dotted name, in graph order."""
    found: dict[str, torch.Tensor] = {}
    for node in module.graph.find_nodes(op="get_attr"):
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, torch.Tensor):
            found[str(node.target)] = value
    return found


def _restored(
    module: fx.GraphModule,
    traced: fx.GraphModule,
    constants: Mapping[str, torch.Tensor],
    placeholders: Sequence[fx.Node],
    fakes: FakeRunner,
    names: Mapping[str, str],
) -> Retraced:
    """The traced graph with the source's parameters, inputs and guards in place of the flat inputs of the trace."""
    graph = fx.Graph()
    graph.set_codegen(codegen_of(module.graph))
    attributes: dict[str, Any] = dict(constants)
    flat = [graph.get_attr(name) for name in constants]
    for source in placeholders:
        node = graph.create_node("placeholder", str(source.target), source.args, name=source.name)
        node.meta = {**source.meta, "val": fakes.input(source)}
        flat.append(node)
    copies = dict(zip(traced.graph.find_nodes(op="placeholder"), flat, strict=True))
    renamed = {old.name: new.name for old, new in copies.items()}
    _add_guards(module, graph, {source: flat[len(constants) + i] for i, source in enumerate(placeholders)}, attributes)
    for node in traced.graph.nodes:
        if node.op != "placeholder":
            copies[node] = _copied(traced, graph, node, copies, attributes)
            renamed[node.name] = copies[node].name
    result = fx.GraphModule(attributes, graph, class_name=type(module).__name__)
    return Retraced(result, {source: renamed[name] for source, name in names.items() if name in renamed})


def _copied(
    traced: fx.GraphModule,
    graph: fx.Graph,
    node: fx.Node,
    copies: Mapping[fx.Node, fx.Node],
    attributes: dict[str, Any],
) -> fx.Node:
    copy = graph.node_copy(node, lambda each: copies[each])
    if node.op in ("get_attr", "call_module"):  # tensors and sub-graphs the trace itself made
        copy.target = f"_traced_{node.target}"
        attributes[copy.target] = getattr(traced, str(node.target))
    return copy


def _add_guards(
    module: fx.GraphModule, graph: fx.Graph, inputs: Mapping[fx.Node, fx.Node], attributes: dict[str, Any]
) -> None:
    """Input checks are not traced, and so copied: they read nothing but inputs."""
    for node in module.graph.find_nodes(op="call_module"):
        attributes[str(node.target)] = module.get_submodule(str(node.target))
        graph.node_copy(node, lambda each: inputs[each])
