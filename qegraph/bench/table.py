"""The benchmark's results as tables of ratios, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from qegraph.machine import Machine

from .accuracy import Error
from .run import Outcome, Result, Settings
from .variants import BASELINE, COMPILE_RATIOS, ORACLE, OWN_QUANTIZATION, RATIOS

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
    """Speed, ratio, graph and error tables; what was chosen, what crashed and what isn't installed, if anything."""
    wanted = settings.wanted()
    made = [_speed(results, wanted), _ratios(results, wanted), _graphs(results)]
    made += [_errors(results, wanted), _float_errors(results, wanted)]
    for title, text in (
        ("chosen while building", lambda each: each.note),
        ("crash: reason", lambda each: each.crash),
        ("left out: not installed", lambda each: each.skipped),
    ):
        made += _remarks(title, results, text)
    return [each for each in made if each.rows]


def _remarks(title: str, results: Sequence[Result], text: Callable[[Outcome], str | None]) -> list[Table]:
    rows = tuple((r.model, key, said) for r in results for key, each in r.outcomes.items() if (said := text(each)))
    return [Table(title, ("model", "variant", "what"), rows, False)]


def _speed(results: Sequence[Result], wanted: Sequence[str]) -> Table:
    rows = [(r.model, *(_speedup(r.outcomes[key]) for key in wanted), _ms(r)) for r in results]
    if len(results) > 1:
        speedups = [_mean(r.outcomes[key].speedup for r in results) for key in wanted]
        rows.append(("geometric mean", *map(_number, speedups), ""))
    title = "Speed-up over fp32 eager (1.00); the last column is ms of each variant"
    return Table(title, ("model", *wanted, "ms"), tuple(rows))


def _ratios(results: Sequence[Result], wanted: Sequence[str]) -> Table:
    """Of the pairs that were both asked for."""
    times = [pair for pair in RATIOS if {*pair} <= {*wanted}]
    builds = [pair for pair in COMPILE_RATIOS if {*pair} <= {*wanted}]
    heads = [f"{slow} / {fast}" for slow, fast in times] + [f"seconds: {ours} / {rival}" for ours, rival in builds]
    values = {
        r.model: [r.ratio(*each) for each in times] + [r.compile_ratio(*each) for each in builds] for r in results
    }
    rows = [(model, *map(_number, each)) for model, each in values.items()] if heads else []
    if len(rows) > 1:
        rows.append(("geometric mean", *(_number(_mean(column)) for column in zip(*values.values(), strict=True))))
    title = "Time of a rival over ours (above 1: ours is faster); seconds to compile, ours over the rival's"
    return Table(title, ("model", *heads), tuple(rows))


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
    shown = [key for key in wanted if key not in OWN_QUANTIZATION]
    title = "Error against the q/dq graph run eagerly: max (mean), in units of its largest output"
    rows = [(r.model, *(_error(r.outcomes[key], r.outcomes[key].error) for key in shown)) for r in results]
    return Table(title, ("model", *shown), tuple(rows))


def _float_errors(results: Sequence[Result], wanted: Sequence[str]) -> Table:
    shown = [key for key in wanted if key != BASELINE]
    peers = [key for key in shown if key in OWN_QUANTIZATION]
    own = f"; {' and '.join(peers)} by their own recipes on the same calibration data" if peers else ""
    title = f"Error against the float model, that of quantizing included{own}: max (mean)"
    rows = [(r.model, *(_error(r.outcomes[key], r.outcomes[key].float_error) for key in shown)) for r in results]
    return Table(title, ("model", *shown), tuple(rows))


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


def _error(outcome: Outcome, error: Error | None) -> str:
    if error is None:
        return "crash" if outcome.crash else "-"
    scale = error.scale or 1.0
    return f"{error.maximum / scale:.1e} ({error.mean / scale:.1e})"


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
        builds = {f"{ours}/{rival}": result.compile_ratio(ours, rival) for ours, rival in COMPILE_RATIOS}
        plain: dict[str, Any] = {
            **asdict(result),
            "ratios": ratios,
            "compile_ratios": builds,
            "ms_per_node": result.milliseconds_per_node(),
        }
        plain["outcomes"] = {name: _plain(outcome) for name, outcome in result.outcomes.items()}
        models.append(plain)
    return {"machine": asdict(machine), "settings": asdict(settings), "models": models}


def _plain(outcome: Outcome) -> dict[str, Any]:
    timing, counts = outcome.timing, outcome.counts
    derived = {"median_ms": timing.median if timing else None, "leftovers": counts.leftovers if counts else None}
    return {**asdict(outcome), **derived}
