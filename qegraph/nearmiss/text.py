"""What a guard saw, and what stood where a pattern expected something else.

The words come from the facts of the guard themselves, evaluated on what its variables stand for: a guard needs no code
of its own to be explained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qegraph.lang.terms import CONSTRUCTORS, Expr
from qegraph.nearmiss import words
from qegraph.nearmiss.find import Near
from qegraph.nearmiss.partial import Mismatch
from qegraph.nearmiss.solve import NoValue, Unbound, evaluate
from qegraph.nearmiss.tables import Tables
from qegraph.snapshot import ClassRef, Data

_NEAREST_ROWS = 3
_MOST_ARGUMENTS = 2
_UNKNOWN = "not known"


def observed(tables: Tables, near: Near) -> str:
    """What the first fact that fails is about, as it is here; empty if none fails."""
    if near.fact is None:
        return ""
    row = _row(tables, near.fact, near)
    if row is not None:
        return row
    return "; ".join(dict.fromkeys(_seen(tables, near.fact, near)))


def found_instead(tables: Tables, mismatch: Mismatch) -> str:
    """What was expected where, and what stands there."""
    pattern, value = mismatch.pattern, mismatch.value
    if isinstance(value, ClassRef):
        where = words.name(tables, value.number)
        if isinstance(pattern, Expr) and pattern.args is None:
            return f"expected {pattern.head} again, found {words.described(tables, value.number)}"
        found = ", ".join(tables.words(value.number)) or "nothing"
        return f"expected {_head(pattern)} at {where}, found {found}"
    where = words.name(tables, mismatch.eclass)
    return f"expected {_pattern(tables, pattern)} in {where}, found {words.shown(tables, value)}"


def _head(pattern: Any) -> str:
    return pattern.head if isinstance(pattern, Expr) else words.number(pattern)


def _pattern(tables: Tables, pattern: Any) -> str:
    """An attribute as values are shown, if it has no variables; else as it is written in the rule."""
    try:
        return words.shown(tables, evaluate(tables, pattern, {}))
    except (Unbound, NoValue):
        return f"{pattern.head} again" if pattern.args is None else str(pattern)


def _row(tables: Tables, fact: Expr, near: Near) -> str | None:
    """A fact that is a row of a table of names: that row, and the rows of the table that differ from it least."""
    rows = list(tables.rows(fact.head))
    if not rows or not all(isinstance(item, str) for row in rows for item in row):
        return None
    try:
        found = tuple(evaluate(tables, arg, near.env) for arg in fact.args or ())
    except (NoValue, Unbound):
        return None
    by_nearness = sorted(rows, key=lambda row: _distance(row, found))
    known = ", ".join(map(_tuple, by_nearness[:_NEAREST_ROWS])) + (", …" if len(rows) > _NEAREST_ROWS else "")
    return f"{_tuple(found)}; there is {known}"


def _distance(row: tuple[str, ...], found: tuple[str, ...]) -> tuple[int, tuple[bool, ...]]:
    """How many columns differ; of equals, what agrees in the first ones is nearer."""
    differ = tuple(a != b for a, b in zip(row, found, strict=True))
    return sum(differ), differ


def _tuple(row: tuple[str, ...]) -> str:
    return row[0] if len(row) == 1 else f"({', '.join(row)})"


def _seen(tables: Tables, term: Any, near: Near) -> Iterator[str]:
    """Every function a fact asks for, with its value, and every variable that stands in it by itself."""
    if not isinstance(term, Expr):
        return
    if term.args is None:
        if term.head in near.env:
            value = near.env[term.head]
            label = "" if isinstance(value, (ClassRef, Data)) else f"{term.head} is "
            yield f"{label}{words.shown(tables, value)}"
    elif _is_function(tables, term):
        yield _called(tables, term, near)
    else:
        for arg in term.args:
            yield from _seen(tables, arg, near)


def _is_function(tables: Tables, term: Expr) -> bool:
    return term.head not in CONSTRUCTORS and tables.is_function(term.head)


def _called(tables: Tables, term: Expr, near: Near) -> str:
    args = term.args or ()
    about = " and ".join(_about(tables, arg, near) for arg in args[:_MOST_ARGUMENTS])
    about += " and so on" if len(args) > _MOST_ARGUMENTS else ""
    try:
        value = evaluate(tables, term, near.env)
    except (NoValue, Unbound):
        return f"{term.head} of {about} is {_UNKNOWN}"
    return f"{term.head} of {about} is {words.shown(tables, value)}"


def _about(tables: Tables, term: Any, near: Near) -> str:
    """An argument by the shortest name it has."""
    try:
        value = evaluate(tables, term, near.env)
    except (NoValue, Unbound):
        return str(term)
    return words.name(tables, value.number) if isinstance(value, ClassRef) else words.shown(tables, value)
