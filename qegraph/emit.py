"""Selection -> GraphModule: names, metadata and provenance, in-place choice, packed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from qegraph import borders
from qegraph._torch import OpOverload, is_guards_module, split_arguments
from qegraph.capture_call import Attribute, Method
from qegraph.emit_sizes import Sizes
from qegraph.encode import Encoder
from qegraph.evidence import Evidence
from qegraph.extract import Selection
from qegraph.freeze import Freezer
from qegraph.kernels import Kernels
from qegraph.ops import MEANINGS, WORDS
from qegraph.packing import InputChecks
from qegraph.program import Program, Ref, Value, map_refs, operands
from qegraph.schedule import Schedule, schedule
from qegraph.snapshot import ClassRef, Data, ENode, Snapshot
from qegraph.torch_names import aten, onednn

META = "qegraph"
"""Key of `node.meta` and `GraphModule.meta` under which provenance and report stand."""

_CHANNELS_LAST = (onednn.qconv_pointwise, onednn.qconv2d_pointwise)
_CONTIGUOUS = (onednn.qlinear_pointwise,)
_KEEPS_LAYOUT = (torch.ops.quantized.max_pool2d.default, aten.relu.default, aten.clamp.default, borders.clamp)


class Emitter:
    """Builds one graph; implements `qegraph.ops.table.Emission`."""

    def __init__(
        self, program: Program, encoder: Encoder, freezer: Freezer, snapshot: Snapshot, selection: Selection,
        evidence: Evidence, kernels: Kernels = "onednn",
    ) -> None:  # fmt: skip
        self.program, self.encoder, self.snapshot = program, encoder, snapshot
        self.selection, self.evidence, self.freezer = selection, evidence, freezer
        self.kernels: Kernels = kernels
        effects = tuple(freezer.value_class[index] for index in program.effects)
        self.plan: Schedule = schedule(snapshot, selection, effects)
        self.graph = fx.Graph()
        self.root = torch.nn.Module()
        self.nodes: dict[int, Any] = {}
        self.current: ENode | None = None
        self.position = 0
        self._packed: dict[Any, fx.Node] = {}
        self._buffers: dict[int, fx.Node] = {}
        self._inputs: dict[int, fx.Node] = {}
        self._sizes = Sizes(self.graph, encoder, self._inputs)
        self._permuted = _permuted(snapshot)
        self._operands: dict[int, tuple[int, ...]] = {}
        self._constants: dict[int, torch.Tensor | None] = {}
        self._taken = {name.split(".")[0] for name in (*program.constants, *program.modules)}

    def run(self) -> fx.GraphModule:
        for value in self.program.values:
            if value.kind == "input":
                node = self.graph.placeholder(value.target)
                node.meta.update(_plain_meta(value))
                self._inputs[value.index] = node
        for position, eclass in enumerate(self.plan.order):
            self.position = position
            self._emit(eclass)
        self.current = None
        self.graph.output(map_refs(self.program.output, self._output))
        self.graph.set_codegen(self.program.codegen)
        self.graph.eliminate_dead_code(is_impure_node=self._is_kept)
        module = fx.GraphModule(self.root, self.graph, self.program.class_name)
        self.graph.lint()
        return module.eval() if not any(m.training for m in self.program.modules.values()) else module

    def _emit(self, eclass: int) -> None:
        enode = self.snapshot.nodes[self.selection.choice[eclass]]
        if enode.op == "Leaf":
            return  # where it is first read
        self.current = enode
        node = WORDS[enode.op].emit(self, enode)
        self.nodes[eclass] = node
        sources = self.snapshot.sources.get(eclass, ())
        if isinstance(node, fx.Node) and META in node.meta and sources:
            value = self.program.values[sources[0]]
            node.meta.update(_plain_meta(value))
            node.meta[META]["equals"] = value.name
        elif isinstance(node, fx.Node) and META in node.meta:
            node.meta[META]["permuted"] = self._permuted_name(eclass)

    def _output(self, item: Any) -> Any:
        """An output that the source made anew is never the caller's own tensor, nor a part of a joined product."""
        if not isinstance(item, Ref):
            return item
        value = self.program.values[item.index]
        eclass = self.freezer.value_class[item.index]
        node = self.node(eclass)
        if self.snapshot.nodes[self.selection.choice[eclass]].op == "Part":
            return self.graph.call_function(aten.contiguous.default, (node,))
        fresh = value.kind == "call" and value.target in (aten.clone.default, aten.contiguous.default)
        if fresh and isinstance(node, fx.Node) and node.op in ("placeholder", "get_attr"):
            return self.graph.call_function(aten.clone.default, (node,))
        return node

    def _is_kept(self, node: fx.Node) -> bool:
        """Everything selected is needed; only what joined concatenations and packed weights left unread goes."""
        if node.op in ("placeholder", "output"):
            return True
        if node.op == "call_module":
            return node not in self._packed.values()
        return node.target is not aten.cat.default and node.is_impure()

    # -- what emitters ask ---------------------------------------------------------------------------------------------

    def value(self, index: int) -> Value:
        return self.program.values[index]

    def node(self, eclass: int) -> Any:
        if eclass not in self.nodes:
            enode = self.snapshot.nodes[self.selection.choice[eclass]]
            self.nodes[eclass] = self._leaf(enode.args[0])
        return self.nodes[eclass]

    def _leaf(self, index: int) -> fx.Node:
        value = self.program.values[index]
        if value.kind == "input":
            return self._inputs[index]
        return self._fetch(value.target, self.program.constants[value.target], value)

    def _fetch(self, name: str, tensor: torch.Tensor, value: Value | None) -> fx.Node:
        parent, last = self._place(name)
        if isinstance(tensor, torch.nn.Parameter):
            parent.register_parameter(last, tensor)
        else:
            parent.register_buffer(last, tensor)
        node = self.graph.get_attr(name)
        if value is not None:
            node.meta.update(_plain_meta(value))
        return node

    def _place(self, name: str) -> tuple[torch.nn.Module, str]:
        """The module that holds a dotted name, made where it is missing, and the name's last part."""
        parent = self.root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = parent.get_submodule(part)
        return parent, last

    def constant(self, eclass: int) -> torch.Tensor:
        found = self.operand(eclass)
        assert found is not None
        return found

    def operand(self, eclass: int) -> torch.Tensor | None:
        """The value of a constant, one tensor per e-class; None for the operand that isn't there."""
        if eclass not in self._constants:
            enode = self.snapshot.nodes[self.selection.choice[eclass]]
            self._constants[eclass] = self._evaluate(enode)
        return self._constants[eclass]

    def _evaluate(self, enode: ENode) -> torch.Tensor | None:
        if enode.op == "Leaf":
            return self.program.constants[self.program.values[enode.args[0]].target].detach()
        with torch.no_grad():
            return MEANINGS[enode.op](*map(self._decoded, enode.args))

    def _decoded(self, arg: Any) -> Any:
        """An operand of a word of constants."""
        if isinstance(arg, ClassRef):
            return self.operand(arg.number)
        return Data(arg.name, tuple(map(self._decoded, arg.args))) if isinstance(arg, Data) else arg

    def buffer(self, name: str, tensor: torch.Tensor) -> fx.Node:
        """A constant of our own; one node per tensor."""
        if id(tensor) not in self._buffers:
            self._buffers[id(tensor)] = self._fetch(self._unique(f"_{name}_", len(self._buffers)), tensor, None)
        return self._buffers[id(tensor)]

    def packed(self, make: Callable[[], torch.nn.Module], key: Any) -> fx.Node:
        """The packed weight; one module per weight and way of packing."""
        if key not in self._packed:
            name = self._unique("packed_", len(self._packed))
            self.root.add_module(name, make())
            self._packed[key] = self.graph.call_module(name)
        return self._packed[key]

    def _unique(self, prefix: str, number: int) -> str:
        """A name that no attribute of the source has: a result that is optimized again has names of ours."""
        while f"{prefix}{number}" in self._taken:
            number += 1
        self._taken.add(f"{prefix}{number}")
        return f"{prefix}{number}"

    def sizes(self, dims: tuple[int, ...]) -> list[Any]:
        return [self._sizes.of(dim) for dim in dims]

    def shared(self, eclass: int) -> bool:
        """More than one e-node reads the value."""
        return eclass in self.plan.shared

    def scratch(self, eclass: int) -> bool:
        """Nothing reads the value after this point, and nobody else owns its memory."""
        current = self.current
        assert current is not None
        owner = self._owner(eclass)
        enode = self.snapshot.nodes[self.selection.choice[owner]]
        reads_twice = current.op == "QGemm" and self._owner(current.args[1].number) == owner
        return WORDS[enode.op].fresh and self.plan.last_read[owner] <= self.position and not reads_twice

    def _owner(self, eclass: int) -> int:
        """The value whose memory `eclass` may be a view of, through any number of views and permutations."""
        enode = self.snapshot.nodes[self.selection.choice[eclass]]
        while enode.op == "Moved" and enode.args[0].name in ("View", "Permute"):
            eclass = enode.args[1].number
            enode = self.snapshot.nodes[self.selection.choice[eclass]]
        return eclass

    def dense(self, eclass: int, channels_last: bool) -> bool:
        """The value is known to be dense in this layout, because a kernel made it so."""
        node = self.nodes.get(eclass)
        while isinstance(node, fx.Node) and node.target in _KEEPS_LAYOUT:
            node = node.args[0]
        packet = getattr(node.target, "overloadpacket", None) if isinstance(node, fx.Node) else None
        return packet in (_CHANNELS_LAST if channels_last else _CONTIGUOUS)

    def call(self, target: Any, *args: Any) -> fx.Node:
        """`target` is a callable, or (callable or source value, kwargs)."""
        kwargs: dict[str, Any] = {}
        if isinstance(target, tuple):
            target, kwargs = target
        if isinstance(target, Value):
            node = self._call_source(target, args, kwargs)
        else:
            node = self.graph.call_function(target, args, kwargs)
        self._annotate(node)
        return node

    def _call_source(self, value: Value, args: Any, kwargs: dict[str, Any]) -> fx.Node:
        target = value.target
        if value.kind == "module":
            self._attach(target)
            return self.graph.call_module(target, args, kwargs)
        if isinstance(target, Method):
            return self.graph.call_method(target.name, args, kwargs)
        if isinstance(target, Attribute):
            self._attach(target.name)
            return self.graph.get_attr(target.name)
        if isinstance(target, OpOverload):
            args, kwargs = split_arguments(target, args)
        return self.graph.call_function(target, args, kwargs)

    def _attach(self, name: str) -> None:
        """The source's own sub-module, under its own name."""
        parent, last = self._place(name)
        module = self.program.modules[name]
        parent.add_module(last, InputChecks(module) if is_guards_module(module) else module)

    def _annotate(self, node: fx.Node) -> None:
        """Provenance; "equals", the source value a node computes, and "permuted", the one it computes but for the
        order of its dims, are for the last node of an e-node only.
        """
        enode = self.current
        if enode is None:
            return
        sources = self.snapshot.sources.get(enode.eclass, ())
        rules, _ = self.evidence.makers.get(enode.index, ((), ()))
        replaced = sorted(self._replaced(self._matched(enode) or set(sources)))
        node.meta[META] = {
            "op": enode.op,
            "enode": enode.index,
            "rules": rules,
            "from": tuple(self.program.values[i].name for i in replaced if self.program.values[i].kind == "call"),
            "equals": None,
            "permuted": None,
        }

    def _permuted_name(self, eclass: int) -> tuple[str, tuple[int, ...]] | None:
        """The source value that a value of no source is, but for a permutation, and that permutation."""
        if eclass not in self._permuted:
            return None
        index, order = self._permuted[eclass]
        return self.program.values[index].name, order

    def _matched(self, enode: ENode) -> set[int]:
        """The source values that the rules which made the e-node matched; where they are in no source, those that the
        rules which made them matched, and so on until there are some.
        """
        found: set[int] = set()
        seen = {enode.index}
        level = [enode.index]
        while level and not found:
            made = {number for index in level for number in self.evidence.makers.get(index, ((), ()))[1]}
            found.update(index for number in made for index in self.snapshot.sources.get(number, ()))
            level = [index for number in sorted(made) for index in self.snapshot.classes[number] if index not in seen]
            seen.update(level)
        return found

    def _replaced(self, outcomes: set[int]) -> set[int]:
        """The source values that lead to `outcomes` and are computed nowhere else in the emitted graph."""
        found = set(outcomes)
        pending = list(outcomes)
        while pending:
            for index in self._reads(pending.pop()):
                if index not in found and self.freezer.value_class[index] not in self.selection.choice:
                    found.add(index)
                    pending.append(index)
        return found

    def _reads(self, index: int) -> tuple[int, ...]:
        """The operands of a source value, looked for once."""
        if index not in self._operands:
            self._operands[index] = operands(self.program.values[index])
        return self._operands[index]


def _permuted(snapshot: Snapshot) -> Mapping[int, tuple[int, tuple[int, ...]]]:
    """e-class of no source value -> a source value that is a permutation of it, and the order of its dims."""
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    for node in snapshot.nodes:
        if node.op == "Moved" and node.args[0].name == "Permute" and node.eclass in snapshot.sources:
            child = node.args[1].number
            if child not in snapshot.sources:
                found.setdefault(child, (snapshot.sources[node.eclass][0], node.args[0].args[0]))
    return found


def _plain_meta(value: Value) -> Mapping[str, Any]:
    meta = {key: value.meta[key] for key in ("stack_trace", "nn_module_stack", "source_fn_stack") if key in value.meta}
    return {**meta, "val": value.fake}
