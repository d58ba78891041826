"""Capture: a `GraphModule` or `ExportedProgram`, read into a `Program`. The source is never modified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload, pytree, sets_autocast, signature, version_of
from qegraph.capture_call import Attribute, Call, Method, plain, read_call, where
from qegraph.capture_check import check_graph, check_parameters, remarks, unread_module
from qegraph.capture_fake import FakeRunner
from qegraph.capture_fold import checked_operand, fold, identity_operand, is_pure, returned_nodes, writing_body
from qegraph.capture_retrace import retrace
from qegraph.capture_values import NO_CALL, ValueTable
from qegraph.errors import CaptureError, Unsupported
from qegraph.functionalize import NeedsRetrace, functional_twin, hidden_write
from qegraph.program import Program, Ref, operator_name

__all__ = ["Attribute", "Method", "capture"]


def capture(gm: fx.GraphModule | torch.export.ExportedProgram, example_inputs: Sequence[Any] | None = None) -> Program:
    """Read `gm` into a functional, schema-normalised `Program` with a fake value for every value.

    Shapes come from the placeholders' `meta["val"]`, symbolic ones included; `example_inputs` (the arguments of a call)
    gives, as fixed shapes, those that are missing. Targets beyond operators and functions are `Method` (a tensor
    method) and `Attribute` (a sub-graph read as a value).

    Raises `CaptureError` when the graph can't be read (no shapes, a malformed call), and `Unsupported` when it changes
    what its caller can see (an input, a parameter or a buffer) or its constants have no values on the CPU.
    """
    module: Any = gm.module() if isinstance(gm, torch.export.ExportedProgram) else gm
    fakes = FakeRunner(check_graph(module), example_inputs)
    calls = {node.name: operator_name(node.target) for node in module.graph.nodes if node.op.startswith("call_")}
    unread = frozenset(calls) - _needed(module.graph)

    with fakes.running():
        try:
            return replace(_Builder(module, fakes).build(), calls=calls, unread=unread)
        except NeedsRetrace as needed:
            reason = str(needed)
        again = retrace(module, fakes, reason)
        try:
            program = _Builder(again.module, FakeRunner(again.module.graph, None)).build(again.names)
            return replace(program, calls=calls, unread=unread)
        except NeedsRetrace as still:
            raise Unsupported(f"{still}, which functionalization leaves in place") from None


def _needed(graph: fx.Graph) -> frozenset[str]:
    """Names of the nodes that the output, or a call that does more than return a value, depends on."""
    found: set[str] = set()
    stack = [node for node in graph.nodes if node.op == "output" or node.is_impure()]
    while stack:
        node = stack.pop()
        if node.name not in found:
            found.add(node.name)
            stack.extend(node.all_input_nodes)
    return frozenset(found)


class _Builder:
    """Builds the values of one graph, node by node."""

    def __init__(self, module: fx.GraphModule, fakes: FakeRunner) -> None:
        self.module = module
        self.graph = module.graph
        self.fakes = fakes
        self.table = ValueTable(module, fakes)
        self.current: dict[fx.Node, int] = {}
        self.nodes_of: dict[int, list[fx.Node]] = {}
        self.position = {node: i for i, node in enumerate(self.graph.nodes)}
        self.last_read = {node: max(map(self.position.__getitem__, node.users), default=-1) for node in self.position}
        self.returned = returned_nodes(self.graph)

    def build(self, names: Mapping[str, str] | None = None) -> Program:
        """The program; `names` says which node of this graph stands for a node of the source, if they differ."""
        steps: Mapping[str, Callable[[fx.Node], int]] = {
            "placeholder": self._input,
            "get_attr": self._attribute,
            "call_module": self._module,
            "call_function": self._call,
            "call_method": self._call,
        }
        source_nodes: dict[str, int] = {}
        for node in self.graph.nodes:
            if node.op != "output":
                index = steps[node.op](node)
                self._name(node, index)
                source_nodes[node.name] = index
        if names is not None:
            source_nodes = {source: source_nodes[name] for source, name in names.items()}
            self.table.rename({index: source for source, index in reversed(source_nodes.items())}, names)
        output = plain(self.graph.output_node().args[0], self._refer)
        return self.table.program(output, self.graph, type(self.module).__name__, source_nodes)

    # One step per kind of node; each returns the index of the value the node stands for.

    def _input(self, node: fx.Node) -> int:
        return self.table.add("input", str(node.target), Call(_nothing, node.args), self.fakes.input(node), node)

    def _attribute(self, node: fx.Node) -> int:
        name, found = str(node.target), self._read_attribute(node)
        if isinstance(found, torch.Tensor):
            _check_device(node, found)
            return self.table.constant(name, found, node, is_visible=True)
        if isinstance(found, torch.nn.Module):
            self.table.modules[name] = found
            self.table.notes.extend(unread_module(node, found))
            return self.table.add("call", Attribute(name), NO_CALL, found, node)
        raise Unsupported(f"{where(node)}: '{name}' is a {type(found).__name__}, not a tensor or module")

    def _module(self, node: fx.Node) -> int:
        name = str(node.target)
        module = self._read_attribute(node)
        self.table.modules[name] = module
        self.table.notes.extend(unread_module(node, module))
        call = Call(module, plain(node.args, self._refer), plain(node.kwargs, self._refer))
        fake = self.fakes.module(node, module, call, self.table.fakes)
        return self.table.add("module", name, call, fake, node, pure=False)

    def _call(self, node: fx.Node) -> int:
        call = read_call(node, self._refer, self._fake_of)
        if not isinstance(call.target, OpOverload):
            return self._python_call(node, call)
        check_parameters(node, call, self._fake_of)
        self.table.notes.extend(remarks(node, call))
        if reason := hidden_write(call.target, call.args):
            raise Unsupported(f"{where(node)}: {reason}")
        if signature(call.target).written:
            return self._write(node, call, call.target)
        same = identity_operand(call, self._fake_of)
        return same.index if same is not None else self._evaluate(node, call)

    def _fake_of(self, ref: Ref) -> Any:
        return self.table.fakes[ref.index]

    def _python_call(self, node: fx.Node, call: Call) -> int:
        """A function without schema: whether it writes shows in the version counters of its fake operands."""
        if sets_autocast(call.target):
            raise NeedsRetrace(f"{where(node)} changes the calls after it")
        name = str(getattr(call.target, "name", getattr(call.target, "__name__", "")))
        if (name.endswith("_") and not name.endswith("__")) or writing_body(node, self.module):
            raise NeedsRetrace(f"{where(node)} writes in place")
        tensors = [leaf for each in node.all_input_nodes for leaf in _tensors(self.table.fakes[self.current[each]])]
        versions = [version_of(tensor) for tensor in tensors]
        index = self._evaluate(node, call)
        if versions != [version_of(tensor) for tensor in tensors]:
            raise NeedsRetrace(f"{where(node)} writes in place")
        return index

    def _evaluate(self, node: fx.Node, call: Call) -> int:
        """A functional call: folded to a constant, or run on fake values."""
        folded = None if node in self.returned else fold(call, self.table.tensors)
        if folded is not None:
            return self.table.folded(folded, node)
        fake = self.fakes.call(node, call, self.table.fakes)
        pure = is_pure(call, fake) or self._holds_already(call)
        return self.table.add("call", call.target, call, fake, node, pure=pure)

    def _holds_already(self, call: Call) -> bool:
        """A check of metadata that the fake value passed: of an input, only its dtype, device and layout are sure."""
        operand = checked_operand(call)
        if operand is None:
            return False
        return self.table.values[operand.index].kind != "input" or (call.args[1] is None and call.args[2] is None)

    def _write(self, node: fx.Node, call: Call, op: OpOverload) -> int:
        """An in-place call as its functional twin; every node that named the written tensor now names the result."""
        twin = functional_twin(op)
        written = call.args[0]
        if twin is None or not isinstance(written, Ref):
            raise NeedsRetrace(f"{where(node)} has no functional twin")
        functional = Call(twin, call.args)
        same = identity_operand(functional, self._fake_of)
        if same is not None:
            return same.index
        self._check_write(node, written.index)
        index = self._evaluate(node, functional)
        if not _same_type(self.table.fakes[index], self.table.fakes[written.index]):
            raise NeedsRetrace(f"{where(node)} has a functional twin of another type")
        for name in self.nodes_of.pop(written.index):
            self._name(name, index)
        return index

    def _check_write(self, node: fx.Node, written: int) -> None:
        """Renaming is enough unless the caller, or a node read later, sees the same memory under another name."""
        aliases, now = self.table.aliases, self.position[node]
        if aliases.is_visible(written):
            value = self.table.values[written]
            raise Unsupported(f"{where(node)} writes to the {value.kind} '{value.target}': the caller would see it")
        for other in aliases.sharing(written):
            read = any(self.last_read[name] > now for name in self.nodes_of.get(other, ()))
            if aliases.is_visible(other) or (other != written and read):
                name = self.table.values[other].name
                raise NeedsRetrace(f"{where(node)} writes to memory that '{name}' may share")

    def _name(self, node: fx.Node, index: int) -> None:
        self.current[node] = index
        self.nodes_of.setdefault(index, []).append(node)

    def _refer(self, node: fx.Node) -> Ref:
        return Ref(self.current[node])

    def _read_attribute(self, node: fx.Node) -> Any:
        found: Any = self.module
        for part in str(node.target).split("."):
            if not hasattr(found, part):
                raise CaptureError(f"{where(node)}: the module has no attribute '{node.target}'")
            found = getattr(found, part)
        return found


def _check_device(node: fx.Node, constant: torch.Tensor) -> None:
    device = constant.device.type
    if device == "meta":
        raise Unsupported(f"{where(node)} is on the meta device, without values: load the weights, then optimise")
    if device != "cpu":
        raise Unsupported(f"{where(node)} is on {constant.device}: the kernels run on the CPU; move the module there")


def _nothing() -> None:
    """The target of a placeholder's default argument."""


def _tensors(fake: Any) -> list[torch.Tensor]:
    if isinstance(fake, torch.Tensor):
        return [fake]
    if isinstance(fake, (list, tuple, dict)):
        return [leaf for leaf in pytree.tree_leaves(fake) if isinstance(leaf, torch.Tensor)]
    return []


def _same_type(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.device == right.device
