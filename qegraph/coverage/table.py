"""The outcomes as a table, a summary, and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from qegraph.bench.table import Table
from qegraph.machine import Machine

from .cell import FAMILIES, Cell
from .judge import Outcome, Verdict
from .matrix import cells
from .routes import OURS, ROUTES
from .run import Settings

BAD = (Verdict.FLOAT, Verdict.WRONG, Verdict.CRASH)
_MEANING = (
    "fused: correct, and no float GEMM, quantize, dequantize or activation is left that a kernel is able to take in\n"
    "right: correct, where no kernel is able to do more, or (D1 to D14) where no more is asked\n"
    "left float: correct, but not the fused kernel"
)


def failures(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """What must make the command fail: anything of ours that isn't fused or right."""
    return [outcome for outcome in outcomes if outcome.route == OURS and outcome.verdict in BAD]


def table(outcomes: Sequence[Outcome], settings: Settings) -> Table:
    """One row a family: how many cells, for how many no kernel is able, and what each route made of those it ran."""
    routes = [route.name for route in settings.routes()]
    rows: list[tuple[str, ...]] = []
    for name in settings.families:
        members = cells([name])
        unable = sum(cell.fused is None for cell in members)
        parts = [_counted(each for each in outcomes if (each.family, each.route) == (name, route)) for route in routes]
        rows.append((name, FAMILIES[name].title, str(len(members)), str(unable or ""), *parts))
    return Table("Coverage", ("family", "", "cells", "unable", *routes), tuple(rows), numbers=False)


def summary(outcomes: Sequence[Outcome], settings: Settings) -> str:
    """What the words mean, then one line a route, with the number of cells it ran."""
    total = len(cells(settings.families))
    lines = [_MEANING]
    for route in settings.routes():
        own = [outcome for outcome in outcomes if outcome.route == route.name]
        sampled = f"{len(own)} of {total} cells" + (f", seed {settings.seed}" if len(own) < total else "")
        lines.append(f"{route.title} ({sampled}): {_counted(own) or 'nothing'}")
    return "\n".join(lines)


def _counted(outcomes: Iterable[Outcome]) -> str:
    found = Counter(outcome.verdict for outcome in outcomes)
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict])


def to_json(outcomes: Sequence[Outcome], settings: Settings, machine: Machine) -> dict[str, Any]:
    """Every cell with its axes and what each route made of it."""
    made: dict[tuple[str, str], dict[str, Any]] = {
        (cell.family, cell.name): _plain(cell) for cell in cells(settings.families)
    }
    for outcome in outcomes:
        made[outcome.family, outcome.cell]["routes"][outcome.route] = {
            "verdict": outcome.verdict,
            "reason": outcome.reason,
        }
    titles = {name: ROUTES[name].title for name in (route.name for route in settings.routes())}
    return {"machine": asdict(machine), "settings": asdict(settings), "routes": titles, "cells": list(made.values())}


def _plain(cell: Cell) -> dict[str, Any]:
    axes = ("family", "what", "dtype", "rank", "qparams", "users", "sharing", "decomposed")
    plain: dict[str, Any] = {axis: getattr(cell, axis) for axis in axes}
    return {**plain, "name": cell.name, "able": cell.fused is not None, "routes": {}}
