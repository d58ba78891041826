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
    source = _Source(module, fakes)
    try:
        traced, names = source.trace(pre_dispatch=True)
        if any(sets_autocast(node.target) for node in traced.graph.nodes):
            traced, names = source.trace(pre_dispatch=False)  # the casts themselves, not the switches
    except Unsupported:
        raise
    except Exception as error:
        message = f"{reason}, and the graph can't be functionalized: {type(error).__name__}: {error}"
        raise Unsupported(message) from error
    return source.restore(traced, names)


class _Source:
    """The graph to trace: a function of its constants and inputs, in that order."""

    def __init__(self, module: fx.GraphModule, fakes: FakeRunner) -> None:
        self.module = module
        self.fakes = fakes
        self.constants = _constants(module)
        self.placeholders = list(module.graph.find_nodes(op="placeholder"))
        self.described = [f"the constant '{name}'" for name in self.constants]
        self.described += [f"the input '{node.target}'" for node in self.placeholders]

    def trace(self, *, pre_dispatch: bool, find_write: bool = False) -> tuple[fx.GraphModule, dict[str, str]]:
        """The functional graph of constants and inputs, and which of its nodes computes each source node.

        Raises `Unsupported` for a write to one of them. To look for the node after every step would take steps times
        inputs, so that is done (`find_write`) only when there is one.
        """
        names: dict[str, str] = {}
        is_written = False

        def function(*flat: Any) -> Any:
            nonlocal is_written
            visible = list(zip(self.described, flat, strict=True))
            lifted = dict(zip(self.constants, flat, strict=False))
            tracer = _Tracer(self.module, lifted, visible if find_write else [], names)
            result = tracer.run(*flat[len(self.constants) :], enable_io_processing=False)
            is_written = any(is_mutated(tensor) for _, tensor in visible)
            return result

        inputs = [self.fakes.constant(tensor) for tensor in self.constants.values()]
        inputs += [self.fakes.input(node) for node in self.placeholders]
        traced = trace_functional(function, [_traceable(each) for each in inputs], pre_dispatch=pre_dispatch)
        if is_written:
            return self.trace(pre_dispatch=pre_dispatch, find_write=True)
        return traced, names

    def restore(self, traced: fx.GraphModule, names: Mapping[str, str]) -> Retraced:
        """The traced graph with the source's parameters, inputs and guards in place of the inputs of the trace."""
        graph = fx.Graph()
        graph.set_codegen(codegen_of(self.module.graph))
        attributes: dict[str, Any] = dict(self.constants)
        flat = [graph.get_attr(name) for name in self.constants]
        inputs = {source: self._input(graph, source) for source in self.placeholders}
        copies = dict(zip(traced.graph.find_nodes(op="placeholder"), [*flat, *inputs.values()], strict=True))
        renamed = {old.name: new.name for old, new in copies.items()}
        for node in self.module.graph.find_nodes(op="call_module"):  # guards are not traced: they read only inputs
            attributes[str(node.target)] = self.module.get_submodule(str(node.target))
            graph.node_copy(node, inputs.__getitem__)
        for node in traced.graph.nodes:
            if node.op != "placeholder":
                copies[node] = _copied(traced, graph, node, copies, attributes)
                renamed[node.name] = copies[node].name
        result = fx.GraphModule(attributes, graph, class_name=type(self.module).__name__)
        return Retraced(result, {source: renamed[name] for source, name in names.items() if name in renamed})

    def _input(self, graph: fx.Graph, source: fx.Node) -> fx.Node:
        node = graph.create_node("placeholder", str(source.target), source.args, name=source.name)
        node.meta = {**source.meta, "val": self.fakes.input(source)}
        return node


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
