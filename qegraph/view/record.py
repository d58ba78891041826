"""A report as JSON and back: everything it holds, under the names of its fields."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from qegraph.errors import QegraphError
from qegraph.report import Contraction, Drawn, Fate, Report

FORMAT = "qegraph-report-1"


def to_json(report: Report) -> str:
    """One object; tuples are lists, and `summary` and `gap` are there too for those who only read."""
    return json.dumps({"format": FORMAT, "summary": report.summary, "gap": report.gap, **asdict(report)})


def from_json(text: str) -> Report:
    """The report that was written. Raises QegraphError for anything else."""
    try:
        found: dict[str, Any] = json.loads(text)
        if found["format"] != FORMAT:
            raise KeyError("format")
        return Report(**_fields(found))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise QegraphError(
            f"expected a report as explain(..., format='json') writes it ({FORMAT}), got something else: {error!r}"
        ) from error


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    """The report's own fields, as what they were."""
    plain = {name: item for name, item in _tuples(found).items() if name not in ("format", "summary", "gap")}
    return {
        **plain,
        "contractions": tuple(Contraction(**_tuples(each)) for each in found["contractions"]),
        "fate": {name: Fate(**_tuples(each)) for name, each in found["fate"].items()},
        "left": _tuples(found["left"]),
        "before": tuple(Drawn(**_tuples(each)) for each in found["before"]),
        "after": tuple(Drawn(**_tuples(each)) for each in found["after"]),
    }


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()}
