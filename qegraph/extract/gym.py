"""E-graphs as files: the JSON of egraph-serialize, which the public extraction-gym benchmarks use.

`nodes`: id -> {op, children (ids of e-nodes: any of a class stands for it), eclass, cost (1 if missing), subsumed (may
not be chosen)}; `root_eclasses`; `class_data`: e-class -> {type}, optional. Whatever else is there is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf, isnan
from pathlib import Path
from typing import Any, cast

from qegraph.errors import QegraphError
from qegraph.extract.selection import Selection
from qegraph.files import write_text
from qegraph.snapshot import ClassRef, ENode, Snapshot


@dataclass(frozen=True)
class Gym:
    """An e-graph with costs, and the names it has in its file: of e-nodes by index, of e-classes by number."""

    snapshot: Snapshot
    costs: tuple[float, ...]
    nodes: tuple[str, ...]
    classes: tuple[str, ...]

    def choice(self, selection: Selection) -> dict[str, str]:
        """e-class -> e-node, by their names, children before parents."""
        return {self.classes[c]: self.nodes[selection.choice[c]] for c in selection.order}


def to_json(snapshot: Snapshot, costs: Sequence[float]) -> dict[str, Any]:
    """The e-graph as JSON data. `costs` per e-node, in any unit.

    An infinite cost, which JSON can't say, becomes `subsumed` and, for readers that don't know the word, a cost above
    all others together. Raises QegraphError for an operand without e-nodes: there is no id to name it by.
    """
    names = [""] * len(snapshot.nodes)
    for c, ks in enumerate(snapshot.classes):
        for position, k in enumerate(ks):
            names[k] = f"{c}.{position}"
    never = 1 + fsum(cost for cost in costs if cost < inf)
    nodes: dict[str, Any] = {}
    for node, cost in zip(snapshot.nodes, costs, strict=True):
        for child in node.children:
            if not snapshot.classes[child]:
                raise QegraphError(f"e-class {child}, an operand of {node.op} {names[node.index]}, has no e-node")
        nodes[names[node.index]] = {
            "op": node.op,
            "children": [names[snapshot.classes[child][0]] for child in node.children],
            "eclass": str(node.eclass),
            "cost": min(cost, never),
            "subsumed": cost == inf,
        }
    data = {str(c): {"type": _type(snapshot, c)} for c in range(len(snapshot.classes))}
    return {"nodes": nodes, "root_eclasses": [str(root) for root in snapshot.roots], "class_data": data}


def _type(snapshot: Snapshot, eclass: int) -> str:
    return f"{snapshot.dtype[eclass]}{list(snapshot.shape.get(eclass, ()))}" if eclass in snapshot.dtype else "other"


def write(path: Path, snapshot: Snapshot, costs: Sequence[float]) -> None:
    """`to_json` into a file."""
    write_text(path, json.dumps(to_json(snapshot, costs), indent=1) + "\n")


def read(path: Path) -> Gym:
    """The e-graph of a file. Raises QegraphError, naming file and place, for what isn't one."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise QegraphError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise QegraphError(f"{path}: expected JSON: {error}") from error
    return from_json(data, str(path))


def from_json(data: object, where: str = "e-graph") -> Gym:
    """The e-graph that JSON data describe. E-classes are numbered as `class_data`, then `nodes` name them.

    Raises QegraphError, starting with `where`, for what isn't one.
    """
    reader = _Reader(where)
    top = reader.table(data, "the file")
    nodes = reader.table(top.get("nodes"), "nodes")
    numbers: dict[str, int] = {name: i for i, name in enumerate(reader.table(top.get("class_data", {}), "class_data"))}
    homes: dict[str, int] = {}
    for name, node in nodes.items():
        home = reader.text(reader.table(node, f"node {name}").get("eclass"), f"eclass of node {name}")
        homes[name] = numbers.setdefault(home, len(numbers))
    found: list[ENode] = []
    members: list[list[int]] = [[] for _ in numbers]
    for name, node in nodes.items():
        children = [reader.child(child, name, homes) for child in reader.items(node.get("children", []), name)]
        members[homes[name]].append(len(found))
        op = reader.text(node.get("op"), f"op of node {name}")
        args = tuple(map(ClassRef, children))
        found.append(ENode(len(found), homes[name], op, args, tuple(dict.fromkeys(children))))
    costs = tuple(reader.cost(node, name) for name, node in nodes.items())
    roots = [reader.root(root, numbers, members) for root in reader.items(top.get("root_eclasses"), "root_eclasses")]
    snapshot = Snapshot(tuple(found), tuple(map(tuple, members)), tuple(roots))
    return Gym(snapshot, costs, tuple(nodes), tuple(numbers))


@dataclass(frozen=True)
class _Reader:
    """Checks one value each; errors say where it stands, what it must be and what it is."""

    where: str

    def error(self, place: str, expected: str, found: object) -> QegraphError:
        text = repr(found)
        return QegraphError(f"{self.where}: {place}: expected {expected}, found {text[:60]}{'…' * (len(text) > 60)}")

    def table(self, value: object, place: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.error(place, "an object", value)
        return cast("Mapping[str, Any]", value)

    def items(self, value: object, place: str) -> Sequence[object]:
        if not isinstance(value, list):
            raise self.error(place if place == "root_eclasses" else f"children of node {place}", "an array", value)
        return cast("Sequence[object]", value)

    def text(self, value: object, place: str) -> str:
        if not isinstance(value, str):
            raise self.error(place, "a string", value)
        return value

    def child(self, value: object, node: str, homes: Mapping[str, int]) -> int:
        name = self.text(value, f"children of node {node}")
        if name not in homes:
            raise self.error(f"children of node {node}", "the id of a node", name)
        return homes[name]

    def cost(self, node: Mapping[str, Any], name: str) -> float:
        value = node.get("cost", 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"cost of node {name}", "a number", value)
        if isnan(value) or value < 0:
            raise self.error(f"cost of node {name}", "a number >= 0", value)
        subsumed = node.get("subsumed", False)
        if not isinstance(subsumed, bool):
            raise self.error(f"subsumed of node {name}", "true or false", subsumed)
        return inf if subsumed or value > 1e308 else float(value)

    def root(self, value: object, numbers: Mapping[str, int], members: Sequence[Sequence[int]]) -> int:
        name = self.text(value, "root_eclasses")
        if name not in numbers or not members[numbers[name]]:
            raise self.error("root_eclasses", "the e-class of a node", name)
        return numbers[name]
