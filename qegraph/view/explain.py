"""`explain`: the report of an optimised graph, or of one yet to be optimised, in the format that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import torch
from torch import fx

from qegraph._dynamo import compiled_module
from qegraph.compiling import compiled_reports
from qegraph.emit import META
from qegraph.errors import QegraphError
from qegraph.pipeline import optimize
from qegraph.report import Report
from qegraph.report.text import text
from qegraph.view.dot import dot
from qegraph.view.html import page
from qegraph.view.record import to_json
from qegraph.view.tree import tree

Explained = fx.GraphModule | torch.export.ExportedProgram | Callable[..., Any]
Format = Literal["text", "tree", "html", "json", "dot"]

FORMATS: Mapping[str, Callable[[Report], str]] = {
    "text": text,
    "tree": tree,
    "html": page,
    "json": to_json,
    "dot": dot,
}


@overload
def explain(module: Explained) -> Report: ...
@overload
def explain(module: Explained, format: Format) -> str: ...


def explain(module: Explained, format: Format | None = None) -> Report | str:
    """What became of a graph: of a result of `optimize`, or of a q/dq graph, which is optimised with defaults first; or
    of a result of `torch.compile(module, backend="qegraph")` that has been called, and is one graph.

    Without a format the `Report`: data, readable with `print`, and shown as a table where a notebook cell ends in it.

    format  "text"  a summary, what stayed and why, what it costs, and a table of all contractions.
            "tree"  the optimised graph, and under each of its nodes the nodes of the input it took in.
            "html"  one self-contained page: the same, and both graphs drawn. Nothing is fetched.
            "json"  everything; `qegraph.view.record.from_json` makes a `Report` of it again.
            "dot"   the input graph for Graphviz, each group that became one node in a box.

    Raises QegraphError for what is no graph, or several, what `optimize` raises for one it can't read, ValueError for
    an unknown format.
    """
    report = _report(module)
    if format is None:
        return report
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(map(repr, FORMATS))}, got {format!r}")
    return FORMATS[format](report)


def _report(module: Any) -> Report:
    original = compiled_module(module)
    if original is not None:
        return _compiled_report(module, original)
    if isinstance(module, fx.GraphModule):
        report = module.meta.get(META)
        if isinstance(report, Report):
            return report
    if not isinstance(module, (fx.GraphModule, torch.export.ExportedProgram)):
        raise QegraphError(
            f"expected a result of qegraph.optimize, or an fx.GraphModule or ExportedProgram with quantize/dequantize "
            f"operators, got {type(module).__name__}: there is nothing to explain; export and quantize it first"
        )
    return optimize(module).meta[META]


def _compiled_report(module: Any, original: Any) -> Report:
    """Of the one graph compiled by our backend, or of the result of `optimize` that another one compiled."""
    reports = compiled_reports(module)
    if len(reports) == 1:
        return reports[0]
    if not reports and isinstance(original, fx.GraphModule) and META in original.meta:
        return original.meta[META]
    raise QegraphError(
        f"this module was compiled as {len(reports)} graphs: qegraph.compiled_reports(module) has a report for each"
        if reports
        else 'nothing of this module was compiled with backend "qegraph" yet: call it once with inputs'
    )
