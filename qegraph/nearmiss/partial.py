"""The deepest partial match of a rule's left side at an e-class, and the first place where it differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qegraph.lang.terms import CONSTRUCTORS, Expr
from qegraph.nearmiss.solve import Env, Walk, arrangements
from qegraph.nearmiss.solve import evaluate as value_of
from qegraph.nearmiss.tables import Tables
from qegraph.snapshot import ClassRef


@dataclass(frozen=True)
class Mismatch:
    """`pattern` was expected of `value`, an operand of a term of the e-class `eclass` (its root: of itself)."""

    pattern: Any
    value: Any
    eclass: int


@dataclass(frozen=True)
class Partial:
    """`matched` of the `size` places of the pattern (words, variables, literals) fit, under `env`."""

    matched: int
    size: int
    env: Env
    mismatch: Mismatch | None


@dataclass(frozen=True)
class _Pending:
    pattern: Any
    value: Any
    eclass: int
    attribute: tuple[Any, Any] | None = None
    """The outermost attribute (parameters, kind, function, move) it is part of, and what stands there."""


def size(pattern: Any) -> int:
    """Places of a pattern; a list of integers is one."""
    if not isinstance(pattern, Expr) or pattern.head not in CONSTRUCTORS:
        return 1
    return 1 + sum(size(arg) for arg in pattern.args or ())


def deepest(tables: Tables, pattern: Expr, eclass: int, walk: Walk) -> Partial:
    """What fits best of `pattern` at an e-class, over all e-nodes and all orders of commutative words.

    A place that doesn't fit is passed over with all below it, and the first one of them is the mismatch. Branch and
    bound: a choice that can't lead to more places than the best one is dropped; `walk` limits the rest.
    """
    search = _Search(tables, size(pattern), walk)
    search.run((_Pending(pattern, ClassRef(eclass), eclass),), {}, 0, None)
    return search.best


class _Search:
    def __init__(self, tables: Tables, places: int, walk: Walk) -> None:
        self.tables, self.walk = tables, walk
        self.best = Partial(-1, places, {}, None)

    def run(self, agenda: tuple[_Pending, ...], env: Env, matched: int, mismatch: Mismatch | None) -> None:
        """Decide the first of the agenda, then the rest; as deep as the pattern is large."""
        if matched + sum(size(each.pattern) for each in agenda) <= self.best.matched or not self.walk.step():
            return
        if not agenda:
            self.best = Partial(matched, self.best.size, env, mismatch)
            return
        first, rest = agenda[0], agenda[1:]
        if isinstance(first.pattern, Expr) and first.pattern.head in CONSTRUCTORS:
            went_down = self._descend(first, rest, env, matched, mismatch)
        else:
            bound = self._bound(first, env)
            went_down = bound is not None
            if bound is not None:
                self.run(rest, bound, matched + 1, mismatch)
        if not went_down:
            expected, found = first.attribute or (first.pattern, first.value)
            self.run(rest, env, matched, mismatch or Mismatch(expected, found, first.eclass))

    def _descend(
        self, at: _Pending, rest: tuple[_Pending, ...], env: Env, matched: int, mismatch: Mismatch | None
    ) -> bool:
        """Try every term with the word that is expected; are there any?"""
        attribute = at.attribute
        if attribute is None and not isinstance(at.value, ClassRef):
            attribute = at.pattern, at.value
        owner = at.value.number if isinstance(at.value, ClassRef) else at.eclass
        found = False
        for args in self.tables.forms(at.value, at.pattern.head):
            found = True
            for patterns in arrangements(at.pattern):
                inner = tuple(_Pending(each, arg, owner, attribute) for each, arg in zip(patterns, args, strict=True))
                self.run((*inner, *rest), env, matched + 1, mismatch)
        return found

    def _bound(self, at: _Pending, env: Env) -> Env | None:
        """`env`, and the variable that stands here; None if another value is expected."""
        if isinstance(at.pattern, Expr) and at.pattern.args is None:
            return {**env, at.pattern.head: at.value} if env.get(at.pattern.head, at.value) == at.value else None
        return env if value_of(self.tables, at.pattern, env) == at.value else None
