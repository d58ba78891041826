"""A report for a terminal: what it comes to, what stayed and why, and a table of the contractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from io import StringIO

from rich.console import Console
from rich.table import Table

from qegraph.report.account import dims
from qegraph.report.record import Contraction, Report

HEADER = ("source", "kind", "kernel", "post-op", "result", "µs", "share", "rules")
_WIDE = 100_000
"""Columns: a table is as wide as its cells; lines are for the reader's terminal to cut."""


def text(report: Report) -> str:
    """The whole report, lines of any length."""
    return "\n".join([report.summary, *notes(report), *table(report)])


def notes(report: Report) -> Iterable[str]:
    """Everything between the summary and the table, a line each."""
    for each in report.floats():
        yield f"  stays float: {each.source or each.name} ({each.kind}): {each.reason}"
    for op, names in report.left.items():
        yield f"  left {op}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
    yield from kept(report)
    fused = Counter((each.kind, " + ".join(each.post_ops) or "no post-op") for each in report.contractions if each.int8)
    for (kind, post_op), count in sorted(fused.items()):
        yield f"  {count} int8 {kind} with {post_op}"
    if report.verified:
        yield f"  verified: {report.verified}"
    if report.method:
        yield from _totals(report)


def kept(report: Report) -> Iterable[str]:
    """Every quantize and dequantize of the input that is still there, with the reason."""
    for name, fate in report.fate.items():
        if fate.status == "kept" and "quantize" in fate.op:
            yield f"  {name} is kept: {fate.reason}"


def _totals(report: Report) -> Iterable[str]:
    yield (
        f"  {report.cost:.0f} µs {report.prices}; none in the e-graph takes less than {report.lower_bound:.0f} µs: "
        f"gap {report.gap:.2%} ({report.method}, largest cycle {report.largest_cycle})"
    )
    for note in report.notes:
        yield f"  {note}"
    ended = f"stopped at {report.limit}" if report.limit else "fixpoint"
    yield f"  saturated in {report.rounds} rounds ({ended}); " + ", ".join(
        f"{stage} {seconds:.2f} s" for stage, seconds in report.seconds.items()
    )


def cells(report: Report, each: Contraction) -> tuple[str, ...]:
    """One row under `HEADER`."""
    share = f"{each.cost / report.cost:.1%}" if report.cost else ""
    names = ", ".join(each.gemms) or each.source or each.name
    return (
        f"{each.where} ({names})" if each.where else names,
        each.kind,
        "int8" if each.int8 else "float" + (f": {each.reason}" if each.reason else ""),
        " + ".join(each.post_ops),
        f"{each.dtype} {dims(each.shape)}" if each.dtype else "",
        f"{each.cost:.1f}",
        share,
        ", ".join(each.rules),
    )


def table(report: Report) -> Iterable[str]:
    """The contractions, a line each under a header; nothing if there are none."""
    if not report.contractions:
        return
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in HEADER:
        drawn.add_column(name, justify="right" if name in ("µs", "share") else "left", no_wrap=True)
    for each in report.contractions:
        drawn.add_row(*cells(report, each))
    file = StringIO()
    # in a notebook rich would show the table there and then, whatever the file is
    Console(file=file, width=_WIDE, color_system=None, markup=False, highlight=False, force_jupyter=False).print(drawn)
    yield from (line.rstrip() for line in file.getvalue().splitlines())
