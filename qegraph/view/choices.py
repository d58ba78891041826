"""All forms of one value, with what each costs and how it came to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import inf

from qegraph.report.account import described
from qegraph.report.html import table, wrapped
from qegraph.search import Search
from qegraph.view.naming import class_name, term
from qegraph.view.outcome import Outcome

_HEADER = ("form", "", "µs", "whole graph, µs", "rules", "term")
_NUMBERS = frozenset({"µs", "whole graph, µs"})


@dataclass(frozen=True)
class Choice:
    """One form of a value.

    enode   its e-node in the session's e-graph. `term`: the same in words.
    cost    µs of this e-node alone; inf: it can't be emitted by itself.
    total   µs of the cheapest graph that is left if the value may have no other form; inf: there is none.
    rules   how it came to be, first step first; empty if the source says it.
    """

    enode: int
    term: str
    cost: float
    total: float
    rules: tuple[str, ...]
    chosen: bool

    def cells(self) -> tuple[str, ...]:
        return (
            "▶" if self.chosen else "",
            _micros(self.cost),
            _micros(self.total),
            ", ".join(self.rules) or "as in the source",
            self.term,
        )


@dataclass(frozen=True)
class Choices(Sequence[Choice]):
    """The forms of one value, by position. `note` says what becomes of it if none is chosen."""

    node: str
    type: str
    forms: tuple[Choice, ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.forms)

    def __getitem__(self, at: int) -> Choice:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.forms[at]

    @property
    def title(self) -> str:
        return f"{self.node} ({self.type}): {len(self)} forms" + (f"; {self.note}" if self.note else "")

    def __str__(self) -> str:
        lines = [
            f"{'▶' if each.chosen else ' '} {at}  {each.term}  {_micros(each.cost)} µs, whole graph "
            f"{_micros(each.total)} µs  [{', '.join(each.rules) or 'as in the source'}]"
            for at, each in enumerate(self.forms)
        ]
        return "\n".join([self.title, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        marked = frozenset(at for at, each in enumerate(self.forms) if each.chosen)
        rows = [(str(at), *each.cells()) for at, each in enumerate(self.forms)]
        shown = table(_HEADER, rows, _NUMBERS, marked, frozenset({"term"}))
        return wrapped(f"<b>{escape(self.title)}</b>{shown}")


def choices(of: Search, best: Outcome, index: int, totals: Sequence[float]) -> Choices:
    """The forms of value `index`; `totals`: of each form the cost of a graph with it."""
    eclass = of.freezer.value_class[index]
    name = of.program.values[index].name
    taken = best.selection.choice.get(eclass)
    forms = tuple(
        Choice(each, term(of, of.snapshot.nodes[each]), best.costs[each], total, of.evidence.rules(each), each == taken)
        for each, total in zip(of.snapshot.classes[eclass], totals, strict=True)
    )
    fate = best.report.fate.get(name)
    note = f"not computed by itself: {fate}" if taken is None and fate is not None else ""
    held = class_name(of, eclass)
    note = f"equal to {held}" if not note and held != name else note
    return Choices(name, described(of.snapshot, eclass), forms, note)


def _micros(value: float) -> str:
    return f"{value:.1f}" if value < inf else "∞"
