"""Capture: a `GraphModule` or `ExportedProgram`, read into a `Program`. The source is never modified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload, signature
from qegraph.capture_call import Attribute, Call, plain, read_call, where
from qegraph.capture_fake import FakeRunner, runs_on_fakes
from qegraph.capture_fold import fold, identity_operand, is_pure, returned_nodes
from qegraph.errors import CaptureError
from qegraph.functionalize import Aliases, NeedsRetrace, functional_twin, hidden_write, refuse
from qegraph.program import Kind, Program, Ref, Value, map_refs, operands

_STALE_META = frozenset({"val", "example_value", "tensor_meta", "unbacked_bindings", "eager_input_vals"})


def capture(
    gm: fx.GraphModule | torch.export.ExportedProgram, example_inputs: Sequence[Any] | None = None
) -> Program:
    """Read `gm` into a functional, schema-normalised `Program` with a fake value for every value.

    Shapes come from the placeholders' `meta["val"]`, symbolic ones included; `example_inputs` (the arguments of a call)
    gives, as fixed shapes, those that are missing.

    Raises `CaptureError` when the graph can't be read (no shapes, a malformed call) and `Unsupported` when it changes
    what its caller can see: an input, a parameter or a buffer.
    """
    module = gm.module() if isinstance(gm, torch.export.ExportedProgram) else gm
    assert isinstance(module, fx.GraphModule)
    fakes = FakeRunner(module.graph, example_inputs)
    with torch.no_grad(), fakes.mode:
        return _Builder(module, fakes).build()


class _Builder:
    """Builds the values of one graph, node by node."""

    def __init__(self, module: fx.GraphModule, fakes: FakeRunner) -> None:
        self.module = module
        self.graph = module.graph
        self.fakes = fakes
        self.values: list[Value] = []
        self.fake_values: list[Any] = []
        self.current: dict[fx.Node, int] = {}
        self.nodes_of: dict[int, list[fx.Node]] = {}
        self.constants: dict[int, torch.Tensor] = {}
        self.constant_of: dict[int, int] = {}
        self.modules: dict[str, torch.nn.Module] = {}
        self.aliases = Aliases()
        self.source_nodes: dict[str, int] = {}
        self.position = {node: i for i, node in enumerate(self.graph.nodes)}
        self.last_read = {node: max((self.position[user] for user in node.users), default=-1) for node in self.position}
        self.returned = returned_nodes(self.graph)

    def build(self) -> Program:
        steps: Mapping[str, Callable[[fx.Node], int]] = {
            "placeholder": self._input,
            "get_attr": self._attribute,
            "call_module": self._module,
            "call_function": self._call,
            "call_method": self._call,
        }
        for node in self.graph.nodes:
            if node.op != "output":
                index = steps[node.op](node)
                self._name(node, index)
                self.source_nodes[node.name] = index
        return self._finish()

    def _finish(self) -> Program:
        """The program without dead values, renumbered."""
        output = plain(self.graph.output_node().args[0], self._refer)
        kept = _live(self.values, output)
        number = {old: new for new, old in enumerate(kept)}

        def renumber(item: Any) -> Any:
            return Ref(number[item.index]) if isinstance(item, Ref) else item

        values = tuple(_renumbered(self.values[old], number, renumber) for old in kept)
        modules = {value.target for value in values if value.kind == "module"}
        modules |= {value.target.name for value in values if isinstance(value.target, Attribute)}
        return Program(
            values=values,
            output=map_refs(output, renumber),
            effects=tuple(value.index for value in values if not value.pure),
            constants={value.target: self.constants[old] for old, value in zip(kept, values, strict=True) if value.kind == "constant"},
            modules={name: module for name, module in self.modules.items() if name in modules},
            codegen=self.graph._codegen,
            class_name=type(self.module).__name__,
            source_nodes={name: number[old] for name, old in self.source_nodes.items() if old in number},
        )

    # -- one step per kind of node: each returns the index of the value the node stands for

    def _input(self, node: fx.Node) -> int:
        return self._append("input", str(node.target), Call(capture, tuple(node.args)), self.fakes.input(node), node)

    def _attribute(self, node: fx.Node) -> int:
        name = str(node.target)
        found = self._find_attribute(node)
        if isinstance(found, torch.Tensor):
            if id(found) not in self.constant_of:
                self.constant_of[id(found)] = self._constant(name, found, node)
            return self.constant_of[id(found)]
        if isinstance(found, torch.nn.Module):
            self.modules[name] = found
            return self._append("call", Attribute(name), Call(capture, ()), found, node)
        raise CaptureError(f"{where(node)}: '{name}' is a {type(found).__name__}, not a tensor or module")

    def _module(self, node: fx.Node) -> int:
        name = str(node.target)
        module = self.module.get_submodule(name)
        call = Call(module, plain(node.args, self._refer), plain(node.kwargs, self._refer))
        fake = self.fakes.module(node, module, call, self.fake_values)
        self.modules[name] = module
        return self._append("module", name, call, fake, node, pure=False)

    def _call(self, node: fx.Node) -> int:
        call = read_call(node, self._refer, lambda ref: self.fake_values[ref.index])
        op = call.target
        if isinstance(op, OpOverload):
            if reason := hidden_write(op, call.args):
                raise refuse(where(node), "memory its schema does not declare", reason)
            if signature(op).written:
                return self._write(node, call, op)
        same = identity_operand(call)
        return same.index if same is not None else self._evaluate(node, call)

    def _evaluate(self, node: fx.Node, call: Call) -> int:
        """A functional call: folded to a constant, or run on fake values."""
        folded = None if node in self.returned else fold(call, self.constants)
        if folded is not None:
            return self._constant(self._fresh_name(f"_folded_{node.name}"), folded, node, rooted=False)
        fake = self.fakes.call(node, call, self.fake_values) if runs_on_fakes(call.target) else None
        return self._append("call", call.target, call, fake, node, pure=is_pure(node, call, fake))

    def _write(self, node: fx.Node, call: Call, op: OpOverload) -> int:
        """An in-place call as its functional twin; every node that names the written tensor now names the result."""
        twin = functional_twin(op)
        written = call.args[0]
        if twin is None or not isinstance(written, Ref):
            raise NeedsRetrace(where(node))
        functional = Call(twin, call.args)
        same = identity_operand(functional)
        if same is not None:
            return same.index
        self._check_write(node, written.index)
        index = self._evaluate(node, functional)
        if not _same_type(self.fake_values[index], self.fake_values[written.index]):
            raise NeedsRetrace(where(node))
        for name in self.nodes_of.pop(written.index):
            self._name(name, index)
        return index

    def _check_write(self, node: fx.Node, written: int) -> None:
        """Renaming is enough unless the caller, or a value read later, sees the same memory."""
        now = self.position[node]
        root = self.aliases.root(written)
        if root is not None:
            raise NeedsRetrace(where(node))
        for other in self.aliases.others(written):
            if any(self.last_read[name] > now for name in self.nodes_of.get(other, ())):
                raise NeedsRetrace(where(node))

    # -- values

    def _constant(self, name: str, tensor: torch.Tensor, node: fx.Node, rooted: bool = True) -> int:
        fake = self.fakes.constant(tensor)
        index = self._append("constant", name, Call(capture, ()), fake, node, rooted=rooted)
        self.constants[index] = tensor
        return index

    def _append(
        self, kind: Kind, target: Any, call: Call, fake: Any, node: fx.Node, pure: bool = True, rooted: bool = False
    ) -> int:
        index = len(self.values)
        meta = {key: value for key, value in node.meta.items() if key not in _STALE_META}
        self.values.append(Value(index, kind, target, call.args, call.kwargs, fake, node.name, meta, pure))
        self.fake_values.append(fake)
        shares = isinstance(target, OpOverload) and signature(target).aliases
        may_share = operands(self.values[-1]) if shares else ()
        self.aliases.add(index, fake, may_share, rooted=rooted or kind == "input")
        return index

    def _name(self, node: fx.Node, index: int) -> None:
        self.current[node] = index
        self.nodes_of.setdefault(index, []).append(node)

    def _refer(self, node: fx.Node) -> Ref:
        return Ref(self.current[node])

    def _fresh_name(self, name: str) -> str:
        taken = {value.target for value in self.values if value.kind == "constant"} if hasattr(self.module, name) else ()
        while hasattr(self.module, name) or name in taken:
            name += "_"
        return name

    def _find_attribute(self, node: fx.Node) -> Any:
        found: Any = self.module
        for part in str(node.target).split("."):
            if not hasattr(found, part):
                raise CaptureError(f"{where(node)}: the module has no attribute '{node.target}'")
            found = getattr(found, part)
        return found


def _same_type(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.device == right.device


def _live(values: Sequence[Value], output: Any) -> list[int]:
    """Indices of the inputs, the impure values and all that the output or they read, in order."""
    live = {value.index for value in values if value.kind == "input" or not value.pure}
    map_refs(output, lambda item: live.add(item.index) if isinstance(item, Ref) else None)
    for value in reversed(values):
        if value.index in live:
            live.update(operands(value))
    return sorted(live)


def _renumbered(value: Value, number: Mapping[int, int], renumber: Callable[[Any], Any]) -> Value:
    args = tuple(map_refs(arg, renumber) for arg in value.args)
    kwargs = {name: map_refs(arg, renumber) for name, arg in value.kwargs.items()}
    return Value(
        number[value.index], value.kind, value.target, args, kwargs, value.fake, value.name, value.meta, value.pure
    )


__all__: Iterable[str] = ["capture"]
