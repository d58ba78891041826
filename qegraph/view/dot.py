"""The input graph for Graphviz, what became one node of the optimised graph in one box."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from qegraph.report import Drawn, Report, Role

COLOURS: dict[Role, str] = {
    "int8": "#2f9e63",
    "float": "#c9762b",
    "border": "#b04a4a",
    "other": "#7a8699",
    "input": "#4a7ab0",
}


def dot(report: Report) -> str:
    """One digraph; a cluster's label is the emitted node and its operator."""
    return "\n".join(["digraph qegraph {", *(f"  {line}" for line in _lines(report)), "}"])


def _lines(report: Report) -> Iterator[str]:
    yield f"label={_quoted(report.summary)}; labelloc=t; fontname=sans"
    yield "node [shape=box, style=rounded, fontname=sans, fontsize=10]; edge [color=gray]"
    emitted = {each.name: each for each in report.after}
    groups: defaultdict[str, list[Drawn]] = defaultdict(list)
    for node in report.before:
        groups[node.group].append(node)
    for number, (group, members) in enumerate(groups.items()):
        made = emitted.get(group)
        if made is not None and len(members) > 1:
            label = _quoted(f"{made.op}\n{made.name}")
            yield f"subgraph cluster_{number} {{ label={label}; color={_quoted(COLOURS[made.role])}; style=rounded"
            yield from (f"  {_node(each)}" for each in members)
            yield "}"
        else:
            yield from (_node(each) for each in members)
    for node in report.before:
        for operand in node.inputs:
            yield f"{_quoted(operand)} -> {_quoted(node.name)}"


def _node(node: Drawn) -> str:
    label, tooltip = _quoted(f"{node.op}\n{node.name}"), _quoted(node.detail)
    return f"{_quoted(node.name)} [label={label}, tooltip={tooltip}, color={_quoted(COLOURS[node.role])}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
