"""A report as a page: the account, the table, and both graphs side by side, in the colours of what became one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from qegraph.report import Drawn, Report
from qegraph.report.html import folded
from qegraph.view.layout import layout
from qegraph.view.page import Page, build


def page(report: Report) -> Page:
    """The whole document."""
    made = {each.name: (at, each) for at, each in enumerate(report.after)}
    data = {"before": _graph(report.before, made), "after": _graph(report.after, made)}
    graphs = "".join(
        f'<section><h2>{escape(title)}</h2><div class="graph" id="{name}" tabindex="0"></div></section>'
        for name, title in (
            ("before", f"the input graph, {len(report.before)} nodes"),
            ("after", f"the optimised graph, {len(report.after)} nodes"),
        )
    )
    body = f'{folded(report)}<p id="told" aria-live="polite">&nbsp;</p><main class="pair">{graphs}</main>'
    return build("qegraph: " + report.summary, body, data, ["graph.js"])


def _graph(nodes: Sequence[Drawn], made: Mapping[str, tuple[int, Drawn]]) -> Any:
    """Nodes as [name, operator, role, detail, place, row, group], edges as pairs of positions.

    A node of the input graph is drawn in the colour of what it became a part of.
    """
    number = {node.name: at for at, node in enumerate(nodes)}
    rows: list[list[str | float]] = []
    for node, (place, row) in zip(nodes, layout(nodes), strict=True):
        group, into = made.get(node.group, (-1, node))
        rows.append([node.name, node.op, into.role, node.detail, place, row, group])
    return {"nodes": rows, "edges": [[number[operand], at] for at, node in enumerate(nodes) for operand in node.inputs]}
