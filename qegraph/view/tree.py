"""The optimised graph as a tree: under each of its nodes those of the input graph that it took in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from qegraph.report import Drawn, Report


def tree(report: Report) -> str:
    """A line a node, in the order they run; what is gone stands at the end."""
    return "\n".join([report.summary, *_nodes(report), *_gone(report)])


def _nodes(report: Report) -> Iterator[str]:
    taken: defaultdict[str, list[str]] = defaultdict(list)
    for name, fate in report.fate.items():
        if fate.status == "fused" or (fate.status == "gone" and fate.into):
            rules = f"  [{', '.join(fate.rules) or fate.reason}]"
            for into in fate.into:
                taken[into].append(f"{name} ({fate.op}){rules}")
        elif fate.status == "kept":
            taken[fate.into[0]].append(f"{name} ({fate.op})  kept: {fate.reason}")
    for node in report.after:
        yield f"{node.name}: {node.op}{_told(node)}"
        yield from _branches(taken[node.name])


def _told(node: Drawn) -> str:
    first = node.detail.partition("\n")[0]
    return (f" -> {first}" if first else "") + (f"  {node.cost:.1f} µs" if node.cost else "")


def _gone(report: Report) -> Iterator[str]:
    gone = [f"{name} ({fate.op}): {fate}" for name, fate in report.fate.items() if not fate.into]
    if gone:
        yield "gone"
        yield from _branches(gone)


def _branches(lines: Iterable[str]) -> Iterator[str]:
    last = list(lines)
    for at, line in enumerate(last):
        yield ("└─ " if at == len(last) - 1 else "├─ ") + line
