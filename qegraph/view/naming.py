"""Names for what is in an e-graph: e-classes after the source values they hold, e-nodes as short terms; and lookup."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from qegraph.errors import QegraphError
from qegraph.program import Program, module_path, operator_name
from qegraph.report.account import dims
from qegraph.report.fates import GEMMS
from qegraph.search import Search
from qegraph.snapshot import ClassRef, Data, ENode


def class_name(of: Search, eclass: int) -> str:
    """The first source value it holds; "e12" for a value that the source doesn't have."""
    sources = of.snapshot.sources.get(eclass, ())
    return of.program.values[sources[0]].name if sources else f"e{eclass}"


def term(of: Search, node: ENode) -> str:
    """An e-node in one line, e.g. "QGemm(Conv 1x1, x, (0.02, 3, uint8), ..., relu)"; what isn't there is left out."""
    if node.op == "Leaf":
        value = of.program.values[node.args[0]]
        return f"{value.kind} {value.target}"
    if node.op == "Opaque":
        value = of.program.values[node.args[0]]
        return _applied(operator_name(value.target), [_shown(of, each) for each in node.args[1]])
    return _applied(node.op, [_shown(of, each) for each in node.args])


def _applied(name: str, arguments: Iterable[str]) -> str:
    return f"{name}({', '.join(filter(None, arguments))})"


def _shown(of: Search, item: Any) -> str:
    if isinstance(item, ClassRef):
        nodes = [of.snapshot.nodes[index] for index in of.snapshot.classes[item.number]]
        return "" if any(each.op == "Nothing" for each in nodes) else class_name(of, item.number)
    if isinstance(item, Data):
        return _data(of, item)
    if isinstance(item, tuple):
        is_dims = item and all(isinstance(each, int) for each in item)
        return dims(item) if is_dims else " ".join(_shown(of, each) for each in item)
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def _data(of: Search, item: Data) -> str:
    if item.name == "Absent":
        return ""
    if item.name == "Real":
        return str(item.args[0])
    if item.name == "Fn":
        name, *parameters = item.args
        return "" if name == "identity" else _applied(name, map(str, parameters)) if any(parameters) else str(name)
    if item.name == "PerTensor":
        scale, zero_point, _, _, dtype = item.args
        return f"[{scale:.4g}, {zero_point}, {dtype}]"
    arguments = " ".join(filter(None, (_shown(of, each) for each in item.args)))
    return f"{item.name} {arguments}".strip()


def find(program: Program, name: str) -> int:
    """Index of the value that a user means: a node of the input graph, or the contraction, else the last call, of a
    module ("layer1.0.conv2"). Raises QegraphError, with the nearest valid names, if there is none or several.
    """
    if name in program.source_nodes:
        return program.source_nodes[name]
    inside = [value for value in program.values if value.kind == "call" and module_path(value.meta) == name]
    gemms = [value for value in inside if operator_name(value.target) in GEMMS]
    if len(gemms) > 1:
        names = ", ".join(value.name for value in gemms)
        raise QegraphError(f"module {name!r} has {len(gemms)} contractions; name one of its nodes: {names}")
    if inside:
        return (gemms or inside)[-1].index
    known = [*program.calls, *dict.fromkeys(filter(None, (module_path(value.meta) for value in program.values)))]
    nearest = get_close_matches(name, known, n=4, cutoff=0.5)
    told = f"nearest: {', '.join(nearest)}" if nearest else "print(gm.graph) lists its nodes"
    gone = " (no result of the graph depends on it)" if name in program.calls else ""
    raise QegraphError(f"expected a node of the input graph or a module in it, got {name!r}{gone}; {told}")
