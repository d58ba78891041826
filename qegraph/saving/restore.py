"""A module from plain data. Whatever the data, nothing in it is run: every name that gets into generated code is an
identifier, and every call is one that `qegraph.saving.targets` knows.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from qegraph._torch import pytree, pytree_codegen
from qegraph.emit import META
from qegraph.errors import LoadError
from qegraph.packing import PackedWeight
from qegraph.saving.record import Record
from qegraph.saving.targets import target_of
from qegraph.saving.values import decode, no_nodes

_PATH = re.compile(r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)

_IMPORTING = "collections.defaultdict"
"""The container whose spec names a module, which torch imports to read it."""


def restore(record: Record, tensors: Mapping[str, torch.Tensor]) -> fx.GraphModule:
    """The module that `qegraph.saving.record.record` described.

    Raises LoadError, or KeyError, TypeError, ValueError, AttributeError where the record isn't one.
    """
    root = torch.nn.Module()
    for name, facts in record["tensors"].items():
        tensor = tensors[facts["key"]]
        if facts["parameter"]:
            tensor = torch.nn.Parameter(tensor, requires_grad=bool(facts["requires_grad"]))
        _place(root, name, tensor)
    for name, facts in record["packed"].items():
        layout = tuple(decode(each, no_nodes) for each in facts["layout"])
        _place(root, name, PackedWeight.of_kind(facts["kind"], tensors[facts["key"]], layout))
    for name, inner in record["modules"].items():
        _place(root, name, restore(inner, tensors))
    graph = _graph(record["nodes"])
    _sign(graph, record["signature"])
    module = fx.GraphModule(root, graph, _identifier(record["class_name"]))
    graph.lint()
    module.training = bool(record["training"])
    return module


def _place(root: torch.nn.Module, name: str, item: Any) -> None:
    *path, last = _path(name).split(".")
    parent = root
    for part in path:
        if not hasattr(parent, part):
            parent.add_module(part, torch.nn.Module())
        parent = parent.get_submodule(part)
    if isinstance(item, torch.nn.Parameter):
        parent.register_parameter(last, item)
    elif isinstance(item, torch.Tensor):
        parent.register_buffer(last, item)
    else:
        parent.add_module(last, item)


def _graph(nodes: list[Mapping[str, Any]]) -> fx.Graph:
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def node(name: str) -> fx.Node:
        if name not in made:
            raise LoadError(f"node {name!r} is read before it is computed")
        return made[name]

    for each in nodes:
        name, op = _identifier(each["name"]), each["op"]
        if name in made:
            raise LoadError(f"two nodes are named {name!r}")
        args = tuple(decode(item, node) for item in each["args"])
        kwargs = {_identifier(key): decode(item, node) for key, item in each["kwargs"].items()}
        made[name] = graph.create_node(op, _target(op, each["target"]), args, kwargs, name)
        origin = decode(each["origin"], no_nodes)
        if origin is not None:
            made[name].meta[META] = origin
    return graph


def _target(op: str, name: str) -> Any:
    if op == "call_function":
        return target_of(name)
    if op in ("get_attr", "call_module"):
        return _path(name)
    if op in ("placeholder", "output"):
        return _identifier(name)
    raise LoadError(f"a node is a {op!r}, which qegraph.save never writes")


def _sign(graph: fx.Graph, signature: Mapping[str, Any] | None) -> None:
    if signature is None:
        return
    names = [_identifier(name) for name in signature["names"]]
    graph.set_codegen(pytree_codegen(names, _spec(signature["in"]), _spec(signature["out"])))


def _spec(text: str | None) -> Any:
    """torch reads enums and default dicts in a spec by importing a module the text names: those are refused."""
    if text is None:
        return None
    pending: list[Any] = [json.loads(text)]
    while pending:
        item = pending.pop()
        pending += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        if isinstance(item, str) and (item == _IMPORTING or "__enum__" in item):
            raise LoadError("inputs or results are nested by enums or default dicts, which a file can't name safely")
        if isinstance(item, dict) and "__enum__" in item:
            raise LoadError("inputs or results are nested by enums, which a file can't name safely")
    return pytree.treespec_loads(text)


def _identifier(name: Any) -> str:
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name) or keyword.iskeyword(name):
        raise LoadError(f"expected a name, found {name!r:.80}")
    return name


def _path(name: Any) -> str:
    if not isinstance(name, str) or not _PATH.fullmatch(name):
        raise LoadError(f"expected the name of an attribute, found {name!r:.80}")
    return name
