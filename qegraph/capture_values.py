"""The values of a program under construction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload, codegen_of, signature
from qegraph.capture_call import Attribute, Call, references
from qegraph.capture_fake import FakeRunner
from qegraph.functionalize import Aliases
from qegraph.program import Kind, Program, Ref, Value, map_refs, operands

_STALE_META = frozenset({"val", "example_value", "tensor_meta", "unbacked_bindings", "eager_input_vals"})


def _no_call() -> None:
    """The target of values that call nothing."""


NO_CALL = Call(_no_call, ())


class ValueTable:
    """Values in order, their fakes, the tensors of constants, and which of them share memory."""

    def __init__(self, module: torch.nn.Module, fakes: FakeRunner) -> None:
        self.values: list[Value] = []
        self.fakes: list[Any] = []
        self.tensors: dict[int, torch.Tensor] = {}
        self.modules: dict[str, torch.nn.Module] = {}
        self.aliases = Aliases()
        self.notes: list[str] = []
        self._module = module
        self._runner = fakes
        self._index_of_tensor: dict[int, int] = {}

    def add(self, kind: Kind, target: Any, call: Call, fake: Any, node: fx.Node, *, pure: bool = True) -> int:
        """Append a value that stands for `node`; its index."""
        index = len(self.values)
        meta = {key: item for key, item in node.meta.items() if key not in _STALE_META}
        value = Value(index, kind, target, call.args, call.kwargs, fake, node.name, meta, pure)
        self.values.append(value)
        self.fakes.append(fake)
        may_share = operands(value) if isinstance(target, OpOverload) and signature(target).aliases else ()
        self.aliases.add(index, fake, may_share)
        if kind == "input":
            self.aliases.mark_visible(index)
        return index

    def constant(self, name: str, tensor: torch.Tensor, node: fx.Node, *, is_visible: bool) -> int:
        """The constant for `tensor`: one value per tensor, whatever the names it has. `is_visible` to the caller."""
        if id(tensor) in self._index_of_tensor:
            return self._index_of_tensor[id(tensor)]
        index = self.add("constant", name, NO_CALL, self._runner.constant(tensor), node)
        if is_visible:
            self.aliases.mark_visible(index)
        self.tensors[index] = tensor
        self._index_of_tensor[id(tensor)] = index
        return index

    def folded(self, tensor: torch.Tensor, node: fx.Node) -> int:
        """A new constant that replaces `node`."""
        name = f"_folded_{node.name}"
        while hasattr(self._module, name):
            name += "_"
        return self.constant(name, tensor, node, is_visible=False)

    def rename(self, sources: Mapping[int, str], taken: Collection[str]) -> None:
        """Give the values of a graph that was traced anew the names of their source nodes, `sources`; those that no
        source node stands for must have none of the source's, `taken`.
        """
        for value in self.values:
            name = sources.get(value.index) or (f"_traced_{value.name}" if value.name in taken else value.name)
            self.values[value.index] = replace(value, name=name)

    def program(self, output: Any, graph: fx.Graph, class_name: str, source_nodes: Mapping[str, int]) -> Program:
        """The live values, renumbered: inputs, impure values and all that they or `output` read."""
        kept = _live(self.values, output)
        number = {old: new for new, old in enumerate(kept)}
        values = tuple(_renumbered(self.values[old], number) for old in kept)
        used = {value.target for value in values if value.kind == "module"}
        used |= {value.target.name for value in values if isinstance(value.target, Attribute)}
        return Program(
            values=values,
            output=_renumber(output, number),
            effects=tuple(value.index for value in values if not value.pure),
            constants={self.values[old].target: self.tensors[old] for old in kept if old in self.tensors},
            modules={name: module for name, module in self.modules.items() if name in used},
            codegen=codegen_of(graph),
            class_name=class_name,
            source_nodes={name: number[old] for name, old in source_nodes.items() if old in number},
            notes=tuple(dict.fromkeys(self.notes)),
        )


def _live(values: Sequence[Value], output: Any) -> list[int]:
    live = {value.index for value in values if value.kind == "input" or not value.pure}
    live.update(ref.index for ref in references(output))
    for value in reversed(values):
        if value.index in live:
            live.update(operands(value))
    return sorted(live)


def _renumber(item: Any, number: Mapping[int, int]) -> Any:
    def change(leaf: Any) -> Any:
        return Ref(number[leaf.index]) if isinstance(leaf, Ref) else leaf

    return map_refs(item, change)


def _renumbered(value: Value, number: Mapping[int, int]) -> Value:
    args, kwargs = _renumber(value.args, number), _renumber(dict(value.kwargs), number)
    index = number[value.index]
    return Value(index, value.kind, value.target, args, kwargs, value.fake, value.name, value.meta, value.pure)
