"""The benchmark's results as tables of ratios, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from qegraph.machine import Machine

from .run import Outcome, Result, Settings
from .variants import ORACLE

RATIOS = (("torchao", "qegraph"), ("inductor", "qegraph+compile"))
_ROUTES = ("torchao", "inductor", "qegraph")


@dataclass(frozen=True)
class Table:
    """Cells as text. Columns of numbers, all but the first unless `numbers` is false, are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: bool = True


def show(tables: Iterable[Table]) -> None:
    """Print them."""
    console = Console()
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left")
        for at, name in enumerate(table.header):
            drawn.add_column(name, justify="right" if at and table.numbers else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)


def tables(results: Sequence[Result], settings: Settings) -> list[Table]:
    """Speed, graph and error tables, and the crashes if there were any."""
    wanted = settings.wanted()
    crashes = tuple((r.model, key, each.crash) for r in results for key, each in r.outcomes.items() if each.crash)
    made = [_speed(results, wanted), _graphs(results), _errors(results, wanted)]
    return [*made, Table("crash: reason", ("model", "variant", "reason"), crashes, False)] if crashes else made


def _speed(results: Sequence[Result], wanted: Sequence[str]) -> Table:
    heads = [f"{slow} / {fast}" for slow, fast in RATIOS]
    rows = [
        (r.model, *(_speedup(r.outcomes[key]) for key in wanted), *(_number(r.ratio(*pair)) for pair in RATIOS), _ms(r))
        for r in results
    ]
    if len(results) > 1:
        speedups = [_mean(r.outcomes[key].speedup for r in results) for key in wanted]
        ratios = [_mean(r.ratio(*pair) for r in results) for pair in RATIOS]
        rows.append(("geometric mean", *(_number(each) for each in (*speedups, *ratios)), ""))
    title = "Speed-up over fp32 eager (1.00), and time ratios; the last column is ms of each variant"
    return Table(title, ("model", *wanted, *heads, "ms"), tuple(rows))


def _graphs(results: Sequence[Result]) -> Table:
    title = (
        "Left in the graph: quantize + dequantize + float activations; int8 and float GEMMs (attention's matmul counts)"
    )
    header = ["model", "q/dq nodes"]
    for route in _ROUTES:
        header += [f"{route} left", "int8/float"]
    header += ["calls", "optimize s", "ms/node"]
    rows: list[tuple[str, ...]] = []
    for result in results:
        row = [result.model, str(result.nodes)]
        for route in _ROUTES:
            row += _left(result.outcomes.get(route))
        ours = result.outcomes.get("qegraph")
        row += [
            _calls(result, ours),
            _number(ours.build_seconds if ours else None),
            _number(result.milliseconds_per_node()),
        ]
        rows.append(tuple(row))
    return Table(title, tuple(header), tuple(rows))


def _errors(results: Sequence[Result], wanted: Sequence[str]) -> Table:
    title = "Error against the q/dq graph run eagerly: max (mean), in units of its largest output"
    rows = [(r.model, *(_error(r.outcomes[key]) for key in wanted)) for r in results]
    return Table(title, ("model", *wanted), tuple(rows))


def _left(outcome: Outcome | None) -> list[str]:
    if outcome is None or outcome.counts is None:
        return ["crash" if outcome and outcome.crash else "-"] * 2
    counts = outcome.counts
    parts = f"{counts.leftovers} = {counts.quantize}+{counts.dequantize}+{counts.activations}"
    return [parts, f"{counts.int8_gemms}/{counts.float_gemms}"]


def _calls(result: Result, ours: Outcome | None) -> str:
    before = result.outcomes[ORACLE].counts
    return f"{before.nodes} -> {ours.counts.nodes}" if before and ours and ours.counts else "-"


def _speedup(outcome: Outcome) -> str:
    return "crash" if outcome.crash else _number(outcome.speedup)


def _error(outcome: Outcome) -> str:
    if outcome.error is None:
        return "crash" if outcome.crash else "-"
    scale = outcome.error.scale or 1.0
    return f"{outcome.error.maximum / scale:.1e} ({outcome.error.mean / scale:.1e})"


def _ms(result: Result) -> str:
    return " ".join(f"{each.timing.median:.1f}" if each.timing else "-" for each in result.outcomes.values())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return geometric_mean(known) if known else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def to_json(results: Sequence[Result], settings: Settings, machine: Machine) -> dict[str, Any]:
    """Everything measured; samples and medians are milliseconds per call, one sample per round."""
    models: list[dict[str, Any]] = []
    for result in results:
        ratios = {f"{slow}/{fast}": result.ratio(slow, fast) for slow, fast in RATIOS}
        plain: dict[str, Any] = {**asdict(result), "ratios": ratios, "ms_per_node": result.milliseconds_per_node()}
        plain["outcomes"] = {name: _plain(outcome) for name, outcome in result.outcomes.items()}
        models.append(plain)
    return {"machine": asdict(machine), "settings": asdict(settings), "models": models}


def _plain(outcome: Outcome) -> dict[str, Any]:
    timing, counts = outcome.timing, outcome.counts
    derived = {"median_ms": timing.median if timing else None, "leftovers": counts.leftovers if counts else None}
    return {**asdict(outcome), **derived}
