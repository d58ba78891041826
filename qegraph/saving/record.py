"""A module as plain data: one JSON object, and tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from qegraph._torch import codegen_of, pytree, pytree_info
from qegraph.emit import META
from qegraph.errors import SaveError
from qegraph.packing import InputChecks, PackedWeight
from qegraph.saving.targets import name_of
from qegraph.saving.values import encode

Tensors = dict[str, torch.Tensor]
Record = Mapping[str, Any]


def record(module: fx.GraphModule, tensors: Tensors, prefix: str = "") -> Record:
    """The object that `qegraph.saving.restore.restore` reads; what it names in `tensors` is added there.

    class_name, training    of the module.
    signature   how arguments and results are flattened: names, in and out (pytree specs as JSON); None if they aren't.
    nodes       in order: name, op, target, args, kwargs, origin (its provenance).
    tensors     attribute -> parameter, requires_grad, key in `tensors`.
    packed      attribute -> kind, layout, key of its plain weight in `tensors`.
    modules     attribute -> record of a sub-graph.

    Raises SaveError for what is Python code and no data.
    """
    found = _Attributes(module, tensors, prefix)
    nodes = [_node(node) for node in module.graph.nodes if found.is_written(node)]
    return {
        "class_name": name if (name := type(module).__name__).isidentifier() else "GraphModule",
        "training": module.training,
        "signature": _signature(module.graph),
        "nodes": nodes,
        "tensors": found.plain,
        "packed": found.packed,
        "modules": found.modules,
    }


class _Attributes:
    """What the nodes of one graph read or call by attribute, sorted by kind."""

    def __init__(self, module: fx.GraphModule, tensors: Tensors, prefix: str) -> None:
        self.module, self.tensors, self.prefix = module, tensors, prefix
        self.plain: dict[str, Any] = {}
        self.packed: dict[str, Any] = {}
        self.modules: dict[str, Any] = {}

    def is_written(self, node: fx.Node) -> bool:
        """False for checks of inputs, which are Python code: a loaded module, like any copy, goes without."""
        if node.op not in ("get_attr", "call_module"):
            return True
        name = str(node.target)
        found: Any = self.module
        for part in name.split("."):
            found = getattr(found, part)
        if isinstance(found, InputChecks):
            return False
        if isinstance(found, PackedWeight):
            layout = [encode(each) for each in found.layout]
            self.packed[name] = {"kind": found.kind, "layout": layout, "key": self._add(name, found.weight)}
        elif isinstance(found, fx.GraphModule):
            if name not in self.modules:
                self.modules[name] = record(found, self.tensors, f"{self.prefix}{name}.")
        elif isinstance(found, torch.Tensor):
            facts = {"parameter": isinstance(found, torch.nn.Parameter), "requires_grad": found.requires_grad}
            self.plain[name] = {**facts, "key": self._add(name, found)}
        else:
            raise SaveError(
                f"the graph calls its sub-module {name!r}, a {type(found).__name__}, which is Python code; a file "
                "holds data only: use torch.export on the model before it is quantized and optimised"
            )
        return True

    def _add(self, name: str, tensor: torch.Tensor) -> str:
        plain = tensor.detach()
        if type(plain) is not torch.Tensor or plain.layout is not torch.strided or plain.device.type != "cpu":
            raise SaveError(
                f"{self.prefix}{name} is a {type(plain).__name__} ({plain.layout}, on {plain.device}); only dense "
                "tensors on the CPU are written"
            )
        key = self.prefix + name
        self.tensors[key] = plain
        return key


def _node(node: fx.Node) -> dict[str, Any]:
    if node.op == "call_method":
        raise SaveError(
            f"node {node.name!r} calls a method ({node.target}), which a file doesn't hold: use torch.export on the "
            "model before it is quantized and optimised"
        )
    return {
        "name": node.name,
        "op": node.op,
        "target": name_of(node.target) if node.op == "call_function" else str(node.target),
        "args": [encode(each) for each in node.args],
        "kwargs": {name: encode(each) for name, each in node.kwargs.items()},
        "origin": encode(node.meta.get(META)),
    }


def _signature(graph: fx.Graph) -> dict[str, Any] | None:
    info = pytree_info(codegen_of(graph))
    if info is None:
        return None
    names, *specs = info
    try:
        inputs, outputs = (None if spec is None else pytree.treespec_dumps(spec) for spec in specs)
    except (NotImplementedError, TypeError) as reason:
        raise SaveError(f"inputs or results are nested in a container that has no name in a file: {reason}") from reason
    return {"names": list(names), "in": inputs, "out": outputs}
