"""Patterns and facts solved over `Tables`, with the semantics of egglog: which bindings of variables make them hold.

Every e-node and row that is tried is a step, and a `Walk` has a limited number of them: what isn't found within it is
taken for absent, so that no pattern costs more than that in an e-graph of any size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qegraph.compile_rules import swaps
from qegraph.lang.primitives import PRIMITIVES
from qegraph.lang.terms import CONSTRUCTORS, Expr
from qegraph.nearmiss.tables import Tables
from qegraph.snapshot import Data

Env = Mapping[str, Any]
"""Variable -> `ClassRef`, `Data`, tuple of ints, float, int or string."""

STEPS = 20_000


class Walk:
    """Counts steps down; `step()` is False once there are none left."""

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps

    def step(self) -> bool:
        self.left -= 1
        return self.left >= 0


class NoValue(Exception):
    """The term has no value: no such row, or an argument a primitive isn't defined for."""

    def __init__(self, term: Expr) -> None:
        super().__init__(str(term))
        self.term = term


class Unbound(Exception):
    """A variable of the fact isn't known yet: another fact binds it."""


def _item(items: Sequence[int], index: int) -> int:
    if not 0 <= index < len(items):
        raise IndexError(index)
    return items[index]


def _with_item(items: Sequence[int], index: int, item: int) -> tuple[int, ...]:
    _item(items, index)
    return (*items[:index], item, *items[index + 1 :])


_PRIMITIVES: Mapping[str, Callable[..., Any]] = {
    **PRIMITIVES,
    "%": lambda a, b: a - b * int(a / b),  # the sign of the dividend, as in Rust
    "abs": abs,
    "vec-get": _item,
    "vec-set": _with_item,
    "vec-length": len,
}
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(tables: Tables, term: Any, env: Env) -> Any:
    """The value of a term. Raises Unbound for a variable not in `env`, NoValue where the e-graph has none."""
    if not isinstance(term, Expr):
        return term
    if term.args is None:
        if term.head not in env:
            raise Unbound(term.head)
        return env[term.head]
    values = tuple(evaluate(tables, arg, env) for arg in term.args)
    if term.head in _PRIMITIVES:
        try:
            return _PRIMITIVES[term.head](*values)
        except (IndexError, ArithmeticError):
            raise NoValue(term) from None
    word = CONSTRUCTORS.get(term.head)
    if word is not None and word.sort != "T":
        return Data(term.head, values)
    found = tables.eclass(term.head, values) if word is not None else tables.rows(term.head).get(values)
    if found is None:
        raise NoValue(term)
    return found


def match(tables: Tables, pattern: Any, value: Any, env: Env, walk: Walk, swapping: bool = False) -> Iterator[Env]:
    """The extensions of `env` under which `pattern` is `value`; `swapping`: commutative words in either order."""
    if not isinstance(pattern, Expr):
        if pattern == value:
            yield env
    elif pattern.args is None:
        if env.get(pattern.head, value) == value:
            yield {**env, pattern.head: value}
    elif pattern.head in CONSTRUCTORS:
        for args in tables.forms(value, pattern.head):
            for patterns in arrangements(pattern, swapping):
                if not walk.step():
                    return
                yield from match_all(tables, patterns, args, env, walk, swapping)
    elif _value(tables, pattern, env) == value:
        yield env


def match_all(
    tables: Tables, patterns: Sequence[Any], values: Sequence[Any], env: Env, walk: Walk, swapping: bool = False
) -> Iterator[Env]:
    """`match` of all patterns at once."""
    if not patterns:
        yield env
        return
    for found in match(tables, patterns[0], values[0], env, walk, swapping):
        yield from match_all(tables, patterns[1:], values[1:], found, walk, swapping)


def arrangements(pattern: Expr, swapping: bool = True) -> tuple[tuple[Any, ...], ...]:
    """The operands of a pattern in the orders they may stand in."""
    args = pattern.args or ()
    return (args, args[::-1]) if swapping and swaps(pattern) else (args,)


def solutions(tables: Tables, fact: Expr, env: Env, walk: Walk) -> Iterator[Env]:
    """The extensions of `env` under which a fact holds. Raises Unbound if its variables must be bound first."""
    args = fact.args or ()
    if fact.head == "=":
        yield from _equal(tables, args, env, walk)
    elif fact.head in COMPARISONS:
        sides = [_value(tables, arg, env) for arg in args]
        if None not in sides and COMPARISONS[fact.head](*sides):
            yield env
    else:
        yield from _related(tables, fact, env, walk)


def _equal(tables: Tables, sides: Sequence[Any], env: Env, walk: Walk) -> Iterator[Env]:
    left, right = sides
    try:
        known, pattern = evaluate(tables, left, env), right
    except Unbound:
        known, pattern = _value(tables, right, env), left
    except NoValue:
        return
    if known is not None:
        yield from match(tables, pattern, known, env, walk)


def _related(tables: Tables, fact: Expr, env: Env, walk: Walk) -> Iterator[Env]:
    args = fact.args or ()
    rows = tables.rows(fact.head)
    try:
        values = tuple(evaluate(tables, arg, env) for arg in args)
    except NoValue:
        return
    except Unbound:
        for row in rows:
            if not walk.step():
                return
            yield from match_all(tables, args, row, env, walk)
        return
    if values in rows:
        yield env


def _value(tables: Tables, term: Any, env: Env) -> Any:
    """The value of a term, or None."""
    try:
        return evaluate(tables, term, env)
    except NoValue:
        return None
