"""A report as a piece of HTML for a notebook cell: no script, no colours but the page's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qegraph.report.record import Report
from qegraph.report.text import HEADER, cells, notes

STYLE = (
    ".qegraph{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45}"
    ".qegraph .wide{overflow:auto;max-height:48em}"
    ".qegraph table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    # notebooks have rules of their own for cells, that are more specific than ours
    ".qegraph th,.qegraph td{text-align:left!important;padding:2px 10px 2px 0;white-space:nowrap;vertical-align:top}"
    ".qegraph th{border-bottom:1px solid color-mix(in srgb,currentColor 35%,transparent)}"
    ".qegraph th.n,.qegraph td.n{text-align:right!important}.qegraph tr.on{font-weight:600}"
    ".qegraph td.l{white-space:normal;overflow-wrap:anywhere;min-width:24em}"
    ".qegraph ul{margin:.4em 0;padding-left:1.2em}.qegraph summary{cursor:pointer}"
)


def fragment(report: Report) -> str:
    """Summary, notes and the table of contractions."""
    return wrapped(f"<b>{escape(report.summary)}</b>{_account(report)}")


def folded(report: Report) -> str:
    """The same, with the summary alone in sight until the rest is asked for."""
    title = "what stayed and why, what it costs, and every contraction"
    return wrapped(f"<b>{escape(report.summary)}</b>{details(title, _account(report))}")


def _account(report: Report) -> str:
    lines = "".join(f"<li>{escape(line.strip())}</li>" for line in notes(report))
    rows = [cells(report, each) for each in report.contractions]
    return f"<ul>{lines}</ul>" + (table(HEADER, rows, frozenset({"µs", "share"})) if rows else "")


def details(title: str, body: str, is_open: bool = False) -> str:
    """`body` under a title that opens and closes it."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{body}</details>"


def wrapped(body: str) -> str:
    """`body` under the style that all our fragments share."""
    return f'<style>{STYLE}</style><div class="qegraph">{body}</div>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: frozenset[str] = frozenset(),
    marked: frozenset[int] = frozenset(),
    long: frozenset[str] = frozenset(),
) -> str:
    """Cells as text. Columns: `numbers` to align right, `long` to wrap. `marked`: positions of rows to set off."""
    styles = [' class="n"' if name in numbers else ' class="l"' if name in long else "" for name in header]
    head = "".join(f"<th{style}>{escape(name)}</th>" for name, style in zip(header, styles, strict=True))
    body = "".join(
        f"<tr{' class=on' if at in marked else ''}>"
        + "".join(f"<td{style}>{escape(cell)}</td>" for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for at, row in enumerate(rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
