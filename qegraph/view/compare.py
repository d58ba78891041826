"""Two outcomes side by side: what differs in the graphs, where the cost goes, which one is faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from qegraph.report import Drawn
from qegraph.report.html import details, table, wrapped
from qegraph.timing import Timing, speedup
from qegraph.view.outcome import Outcome

_SHOWN = 12
"""Calls of one outcome that a terminal is shown, and a notebook without a click; all are in the data."""


@dataclass(frozen=True)
class Step:
    """One step of the waterfall from one cost to another: a kind of call, and µs and calls of it in each."""

    kind: str
    first: float
    second: float
    calls: tuple[int, int]

    @property
    def change(self) -> float:
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """only   of each outcome, the calls the other one doesn't have: operator, type, and the source nodes in them.

    steps   kinds of calls whose cost differs, the largest change first; they add up to the difference in cost.
    timing  of each, measured in turns.
    """

    names: tuple[str, str]
    costs: tuple[float, float]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    steps: tuple[Step, ...]
    timing: tuple[Timing, Timing]

    @property
    def speedup(self) -> float:
        """How many times faster the second one is."""
        return speedup(*self.timing)

    @property
    def title(self) -> str:
        first, second = self.names
        one, other = self.timing
        return (
            f"{first} -> {second}: {self.costs[0]:.1f} -> {self.costs[1]:.1f} µs by cost, "
            f"{one.median * 1e3:.0f} -> {other.median * 1e3:.0f} µs measured: {self.speedup:.3f} times as fast"
        )

    def __str__(self) -> str:
        return "\n".join([self.title, *self._lines()])

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        for step in self.steps:
            yield f"  {step.change:+10.1f} µs  {step.kind} ({step.calls[0]} -> {step.calls[1]} calls)"
        for name, lines in zip(self.names, self.only, strict=True):
            yield f"  only in {name}: {len(lines) or 'nothing'}"
            yield from (f"    {line}" for line in lines[:_SHOWN])
            if len(lines) > _SHOWN:
                yield f"    and {len(lines) - _SHOWN} more"

    def _repr_html_(self) -> str:
        header = ("kind", *(f"{name}, µs" for name in self.names), "change, µs", "calls")
        rows = [
            (each.kind, f"{each.first:.1f}", f"{each.second:.1f}", f"{each.change:+.1f}", "{} → {}".format(*each.calls))
            for each in self.steps
        ]
        lists = "".join(
            details(
                f"only in {name}: {len(lines)}",
                f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>",
                is_open=len(lines) <= _SHOWN,
            )
            for name, lines in zip(self.names, self.only, strict=True)
            if lines
        )
        return wrapped(f"<b>{escape(self.title)}</b>{table(header, rows, frozenset(header[1:]))}{lists}")


def compare(first: Outcome, second: Outcome, timing: tuple[Timing, Timing]) -> Comparison:
    """What differs, given how long each took."""
    one, other = _calls(first), _calls(second)
    return Comparison(
        (first.name, second.name),
        (first.cost, second.cost),
        (tuple((one - other).elements()), tuple((other - one).elements())),
        tuple(_steps(first, second)),
        timing,
    )


def _calls(of: Outcome) -> Counter[str]:
    """The calls as they compare: operator, type, and what they stand for; not by name, which numbers may shift."""
    taken: dict[str, list[str]] = {}
    for name, fate in of.report.fate.items():
        for into in fate.into if not fate.op.startswith("dequantize") else ():
            taken.setdefault(into, []).append(name)
    return Counter(_call(each, taken.get(each.name, ())) for each in of.report.after if each.role != "input")


def _call(each: Drawn, stands_for: Sequence[str]) -> str:
    sources = f"  [{', '.join(stands_for)}]" if stands_for else ""
    return f"{each.op} -> {each.detail.partition(chr(10))[0]}{sources}"


def _steps(first: Outcome, second: Outcome) -> list[Step]:
    one, other = _kinds(first), _kinds(second)
    none = (0.0, 0)
    steps = [
        Step(kind, one.get(kind, none)[0], other.get(kind, none)[0], (one.get(kind, none)[1], other.get(kind, none)[1]))
        for kind in dict.fromkeys((*one, *other))
    ]
    changed = [each for each in steps if abs(each.change) > 1e-9 or each.calls[0] != each.calls[1]]
    return sorted(changed, key=lambda each: (-abs(each.change), each.kind))


def _kinds(of: Outcome) -> Mapping[str, tuple[float, int]]:
    """Kind of call -> µs and number of calls."""
    found: dict[str, tuple[float, int]] = {}
    for each in of.report.after:
        if each.role != "input":
            cost, calls = found.get(_kind(each), (0.0, 0))
            found[_kind(each)] = (cost + each.cost, calls + 1)
    return found


def _kind(each: Drawn) -> str:
    head = each.op.partition(" + ")[0]
    return f"{each.role} {head}" if each.role in ("int8", "float") else head
