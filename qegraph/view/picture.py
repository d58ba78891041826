"""An interactive picture of the e-graph around one e-class."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import Any

from qegraph.report.account import described
from qegraph.snapshot import ENode, Snapshot
from qegraph.view.naming import class_name, term
from qegraph.view.outcome import Outcome
from qegraph.view.page import Page, build

MOST = 3_000
"""E-classes in a page, the nearest ones: half a megabyte or so."""

_BODY = (
    '<div class="bar"><b id="title"></b><button id="all">expand all in view</button>'
    '<button id="reset">start again</button><span class="dim">click a heading: what it reads and what reads it; '
    "click a form: its operands; green: chosen</span></div>"
    '<p id="told" aria-live="polite">&nbsp;</p><div class="graph" id="view" tabindex="0"></div>'
)


def picture(outcome: Outcome, eclass: int, most: int = MOST) -> Page:
    """The e-graph an outcome was chosen from, opened at `eclass`; `most` e-classes around it are in the page."""
    of = outcome.search
    near = _near(outcome, eclass, most)
    number = {each: at for at, each in enumerate(near)}
    words: dict[str, int] = {}
    laws = {rule.name: rule.law for rule in of.rules}

    def word(text: str) -> int:
        return words.setdefault(text, len(words))

    def form(node: ENode) -> Any:
        cost = outcome.costs[node.index]
        chosen = outcome.selection.choice.get(node.eclass) == node.index
        history = [word(f"{rule}: {laws[rule]}") for rule in of.evidence.rules(node.index)]
        inside = [number[child] for child in node.children if child in number]
        return [word(term(of, node)), inside, round(cost, 2) if cost < inf else None, int(chosen), history]

    classes = [
        [
            word(class_name(of, each)),
            word(described(of.snapshot, each)),
            [form(of.snapshot.nodes[index]) for index in of.snapshot.classes[each]],
            [word(of.program.values[index].name) for index in of.snapshot.sources.get(each, ())],
            int(each in of.snapshot.constants),
        ]
        for each in near
    ]
    name = class_name(of, eclass)
    left = sum(not _is_nothing(of.snapshot, each) for each in range(len(of.snapshot.classes))) - len(near)
    title = f"{name} in the e-graph: {len(of.snapshot.nodes)} e-nodes, {len(of.snapshot.classes)} e-classes"
    title += f", {left} too far away for this page" if left else ""
    return build(f"qegraph: {title}", _BODY, {"title": title, "words": list(words), "classes": classes}, ["egraph.js"])


def _near(outcome: Outcome, eclass: int, most: int) -> list[int]:
    """`eclass` and the e-classes nearest to it, through operands and readers; operands that aren't there left out."""
    snapshot = outcome.search.snapshot
    readers: defaultdict[int, dict[int, None]] = defaultdict(dict)
    for node in snapshot.nodes:
        for child in node.children:
            readers[child][node.eclass] = None
    found = [eclass]
    seen = {eclass}
    for each in found:
        operands = [child for index in snapshot.classes[each] for child in snapshot.nodes[index].children]
        for other in (*operands, *readers[each]):
            if other not in seen and len(found) < most and not _is_nothing(snapshot, other):
                seen.add(other)
                found.append(other)
    return found


def _is_nothing(snapshot: Snapshot, eclass: int) -> bool:
    return any(snapshot.nodes[index].op == "Nothing" for index in snapshot.classes[eclass])
