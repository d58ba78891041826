"""`Program`: what capture gives and encode takes, a functional, schema-normalised value graph.

A program is a list of `Value`s in a topological order that is also the order of the source graph. It owns no tensors
but the constants the source module owns, shared and never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Kind = Literal["input", "constant", "call", "module"]


@dataclass(frozen=True, slots=True)
class Ref:
    """An operand: the value with this index in the program."""

    index: int


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the program; `index` is its position in `Program.values`.

    kind      "input" (a placeholder), "constant" (a parameter or buffer), "call" (an operator or Python function) or
              "module" (a sub-module call).
    target    the placeholder's name, the constant's dotted name, the callable, or the sub-module's dotted name.
    args      a call's arguments. For an `OpOverload`: one entry per schema argument, in schema order, defaults filled
              in, so that kwargs and omitted defaults never matter. Operands are `Ref`s, at any depth of lists.
    kwargs    only for targets without a schema.
    fake      the fake value: a `FakeTensor` for tensors, otherwise what the node returns (SymInt, tuple, None, ...).
    name      the source node's name; `meta` its metadata (stack trace, module stack), for emission.
    pure      False for effects and random numbers: such a value is never merged with its like, dropped or reordered.
    """

    index: int
    kind: Kind
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    fake: Any
    name: str
    meta: Mapping[str, Any]
    pure: bool = True


@dataclass(frozen=True)
class Program:
    """A captured graph.

    values     all values, operands before users.
    output     the output structure of the source graph: nested tuples/lists/dicts with `Ref`s.
    effects    indices of impure values, in source order; they are roots beside the output.
    constants  dotted name -> tensor (shared with the source module).
    modules    dotted name -> sub-module called by a "module" value (shared with the source module).
    codegen    the source graph's code generator: how arguments and results are flattened.
    """

    values: tuple[Value, ...]
    output: Any
    effects: tuple[int, ...]
    constants: Mapping[str, torch.Tensor]
    modules: Mapping[str, torch.nn.Module]
    codegen: Any
    class_name: str = "GraphModule"
    source_nodes: Mapping[str, int] = field(default_factory=dict[str, int])
    """source node name -> index of the value it stands for (in-place and alias nodes map to their functional value)."""
    calls: Mapping[str, str] = field(default_factory=dict[str, str])
    """Every call of the source graph, whatever became of it: node name -> `operator_name`."""
    unread: frozenset[str] = frozenset()
    """Those of them that no result and no effect depends on."""
    notes: tuple[str, ...] = ()
    """What is odd about the graph, and what of it isn't looked into."""


def operands(value: Value) -> tuple[int, ...]:
    """Indices of the values `value` reads, in argument order, repeats kept."""
    found: list[int] = []

    def visit(item: Any) -> Any:
        if isinstance(item, Ref):
            found.append(item.index)
        return item

    map_refs((value.args, dict(value.kwargs)), visit)
    return tuple(found)


def map_refs(item: Any, change: Any) -> Any:
    """`item` with every leaf replaced by `change(leaf)`; lists, tuples, dicts and slices are rebuilt."""
    if isinstance(item, slice):
        return slice(map_refs(item.start, change), map_refs(item.stop, change), map_refs(item.step, change))
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(map_refs(each, change) for each in item))
    if isinstance(item, (list, tuple)):
        return type(item)(map_refs(each, change) for each in item)  # type: ignore[call-arg]
    if isinstance(item, dict):
        return {key: map_refs(each, change) for key, each in item.items()}
    return change(item)


def operator_name(target: Any) -> str:
    """An operator, function or method without namespace and overload, e.g. "conv2d"."""
    packet = getattr(target, "overloadpacket", target)
    return str(getattr(packet, "__name__", None) or getattr(packet, "name", packet)).rpartition(".")[2]


def module_path(meta: Mapping[str, Any]) -> str:
    """Dotted name of the module that a source node with this metadata was called in; empty if it isn't known."""
    stack: Mapping[str, Any] = meta.get("nn_module_stack") or {}
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    return str(path).removeprefix("L['self'].").removeprefix("L__self__.")
