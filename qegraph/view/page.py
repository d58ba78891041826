"""Self-contained pages: style, script and data in one string, nothing fetched; framed for notebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Of the page: what a browser may load for it is nothing, whatever stands in it."""


_HEIGHT = 640
"""Pixels of a page in a notebook."""


class Page(str):
    """A whole document; shown in a frame of its own where a notebook cell ends in it, so that neither disturbs the
    other.
    """

    def __repr__(self) -> str:
        return f"<page of {len(self)} characters>"

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{_HEIGHT}px;border:0"
        return f'<iframe srcdoc="{escape(self)}" style="{style}" title="qegraph"></iframe>'


def build(title: str, body: str, data: Any, scripts: Sequence[str]) -> Page:
    """The document. `data` is there for the scripts as `DATA`; `scripts` are names of files in `assets`."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    script = "\n".join(_asset(name) for name in ("theme.js", *scripts))
    return Page(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_asset('page.css')}</style></head><body>{body}"
        f'<script id="data" type="application/json">{text}</script>'
        f"<script>(() => {{\n{script}}})();</script></body></html>"
    )


def _asset(name: str) -> str:
    return (files("qegraph.view") / "assets" / name).read_text(encoding="utf-8")
