"""Arguments of calls as JSON and back. Everything is data: numbers, names, and references to nodes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from qegraph.errors import LoadError, SaveError

_NAMED: Mapping[str, type] = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def encode(item: Any) -> Any:
    """Raises SaveError for what no operator of a graph takes."""
    if item is None or type(item) in (bool, int, float, str):
        return item
    if isinstance(item, fx.Node):
        return {"node": item.name}
    if isinstance(item, torch.device):
        return {"device": str(item)}
    for name, kind in _NAMED.items():
        if isinstance(item, kind):
            return {name: str(item).removeprefix("torch.")}
    return _encode_collection(item)


def _encode_collection(item: Any) -> Any:
    if isinstance(item, list):
        return [encode(each) for each in item]
    if isinstance(item, tuple):
        return {"tuple": [encode(each) for each in item]}
    if isinstance(item, dict):
        return {"dict": [[encode(key), encode(value)] for key, value in item.items()]}
    if isinstance(item, slice):
        return {"slice": [encode(each) for each in (item.start, item.stop, item.step)]}
    raise SaveError(f"an argument is a {type(item).__name__}, which can't be written as data: {item!r:.80}")


def decode(item: Any, node: Callable[[str], fx.Node]) -> Any:
    """`node` gives the node of a name. Raises LoadError for what `encode` never writes."""
    if isinstance(item, list):
        return [decode(each, node) for each in item]
    if not isinstance(item, dict):
        return item
    if len(item) == 1:
        ((kind, inner),) = item.items()
        if kind == "node" and isinstance(inner, str):
            return node(inner)
        if kind in _NAMED and isinstance(inner, str):
            return _named(kind, inner)
        if kind == "device":
            return torch.device(inner)
        if isinstance(inner, list):
            return _decode_collection(kind, [decode(each, node) for each in inner])
    raise LoadError(f"an argument is none that qegraph.save writes: {item!r:.80}")


def _decode_collection(kind: str, items: list[Any]) -> Any:
    if kind == "tuple":
        return tuple(items)
    if kind == "dict" and all(isinstance(pair, list) and len(pair) == 2 for pair in items):
        return {key: value for key, value in items}
    if kind == "slice" and len(items) == 3:
        return slice(*items)
    raise LoadError(f"an argument is none that qegraph.save writes: {kind!r:.80}")


def _named(kind: str, name: str) -> Any:
    found = getattr(torch, name, None)
    if not isinstance(found, _NAMED[kind]):
        raise LoadError(f"torch {torch.__version__} has no {kind} {name!r}")
    return found


def no_nodes(name: str) -> fx.Node:
    """For `decode`, of what isn't an argument."""
    raise LoadError(f"{name!r} stands where no node can")
