"""A report as a piece of HTML for a notebook cell: no script, no colours but the page's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qegraph.report.record import Report
from qegraph.report.text import HEADER, cells, notes

STYLE = (
    ".qegraph{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45}"
    ".qegraph .wide{overflow:auto;max-height:32em}"
    ".qegraph table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    ".qegraph th,.qegraph td{text-align:left;padding:2px 10px 2px 0;white-space:nowrap;vertical-align:top}"
    ".qegraph th{border-bottom:1px solid color-mix(in srgb,currentColor 35%,transparent)}"
    ".qegraph .n{text-align:right}.qegraph tr.on{font-weight:600}.qegraph ul{margin:.4em 0;padding-left:1.2em}"
)


def fragment(report: Report) -> str:
    """Summary, notes and the table of contractions."""
    lines = "".join(f"<li>{escape(line.strip())}</li>" for line in notes(report))
    rows = [cells(report, each) for each in report.contractions]
    shown = table(HEADER, rows, frozenset({"µs", "share"})) if rows else ""
    return wrapped(f"<b>{escape(report.summary)}</b><ul>{lines}</ul>{shown}")


def wrapped(body: str) -> str:
    """`body` under the style that all our fragments share."""
    return f'<style>{STYLE}</style><div class="qegraph">{body}</div>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: frozenset[str] = frozenset(),
    marked: frozenset[int] = frozenset(),
) -> str:
    """Cells as text. `numbers`: the columns to align right; `marked`: positions of rows to set off."""
    styles = [' class="n"' if name in numbers else "" for name in header]
    head = "".join(f"<th{style}>{escape(name)}</th>" for name, style in zip(header, styles, strict=True))
    body = "".join(
        f"<tr{' class=on' if at in marked else ''}>"
        + "".join(f"<td{style}>{escape(cell)}</td>" for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for at, row in enumerate(rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
