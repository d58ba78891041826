"""One definition per rule: pattern, guards, replacement, law and name in one record; all else derives from it.

`qegraph.lang.define` makes the records, and refuses what is no rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qegraph.errors import WordError
from qegraph.lang.terms import Expr, Tensor, described

KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What names of rules and guards match, whole."""


@dataclass(frozen=True)
class Guard:
    """A named fact with a reason in words.

    facts   egglog facts, evaluated in the e-graph; `binds` are the variables they introduce.
    reason  the sentence shown when the guard is the first to fail, with what its facts are about there.
    fix     what the author of the graph can do about it; empty if nothing but what the reason says.

    Raises WordError for a name that isn't kebab-case, an empty reason, or facts that aren't a tuple of texts.
    """

    name: str
    reason: str
    facts: tuple[str, ...]
    binds: tuple[Expr, ...] = ()
    fix: str = ""

    def __post_init__(self) -> None:
        if not KEBAB.fullmatch(self.name):
            raise WordError(f'guard {self.name!r}: its name must be words with dashes, as in "is-constant"')
        if not self.reason.strip():
            raise WordError(
                f"guard {self.name} has no reason; say in words what must hold: it is shown when it doesn't"
            )
        given: Any = self.facts
        if not isinstance(given, tuple) or not given or not all(isinstance(fact, str) for fact in given):
            raise WordError(
                f'guard {self.name}: facts must be a tuple of texts, as in ("(constant x)",), got {given!r}'
            )


@dataclass(frozen=True)
class Equality:
    """Two equal terms; `rhs` is made where `lhs` is found."""

    lhs: Tensor
    rhs: Tensor


@dataclass(frozen=True)
class Rewrite:
    """What a rule's function returns: equal terms, and when they are equal. Most laws state one equality."""

    equalities: tuple[Equality, ...]
    guards: tuple[Guard, ...] = ()
    is_one_way: bool = False

    def and_(self, lhs: Tensor) -> Left:
        """`rewrite(a).to(b).and_(c).to(d)`: wherever a and c both stand and the guards hold."""
        return Left(_left(lhs), self.equalities)

    def when(self, *guards: Guard) -> Rewrite:
        """Raises WordError for what is no guard."""
        for at, guard in enumerate(guards, 1):
            if not isinstance(guard, Guard):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise WordError(f".when(...): argument {at} must be a guard, got {_no_guard(guard)}")
        return replace(self, guards=self.guards + guards)

    def one_way(self) -> Rewrite:
        """The right side may stand for the left one, never the reverse: what was matched is given up for it."""
        return replace(self, is_one_way=True)


def _no_guard(found: Any) -> str:
    if isinstance(found, tuple):
        return "a tuple; where a condition is several guards, put a star before it: .when(*kernel_reads_weight(...))"
    if isinstance(found, bool):
        return f"{found}, which Python found out about the variables themselves; e.g. same_shape(x, y) is a guard"
    if callable(found):
        return f"{described(found)}; a guard is called with what it is about"
    return described(found)


@dataclass(frozen=True)
class Left:
    """A left side that still waits for its right one."""

    lhs: Tensor
    before: tuple[Equality, ...] = ()

    def to(self, rhs: Tensor) -> Rewrite:
        """Raises WordError if rhs is no value."""
        if not isinstance(rhs, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            hint = f"; a number is scalar({rhs})" if isinstance(rhs, (int, float)) else ""
            raise WordError(f".to(...) must be a Tensor, as the left side is, got {described(rhs)}{hint}")
        return Rewrite((*self.before, Equality(self.lhs, rhs)))


def rewrite(lhs: Tensor) -> Left:
    """`rewrite(lhs).to(rhs).when(guards)`: wherever lhs stands and the guards hold, rhs is equal to it.

    Raises WordError for a left side that is no term, or matches every value.
    """
    return Left(_left(lhs))


def _left(lhs: Tensor) -> Tensor:
    if not isinstance(lhs, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WordError(f"rewrite(...) must be a Tensor, got {described(lhs)}")
    if lhs.is_variable:
        raise WordError(f"rewrite({lhs}) would match every value; the left side must be a word, as in add({lhs}, y)")
    return lhs


@dataclass(frozen=True)
class Rule:
    """A named equality, or several that hold together.

    name       kebab-case; also the test id, the command-line argument and the provenance tag.
    law        one line of algebra or plain words: the rule function's docstring.
    exact      within the numeric contract; a rule that is not is off by default.
    one_way    the right side is more exact: it takes the place of the left one.
    variables  name -> egglog sort, in signature order.
    where      "file:line" of its definition.
    """

    name: str
    law: str
    equalities: tuple[Equality, ...]
    guards: tuple[Guard, ...]
    variables: Mapping[str, str]
    where: str
    exact: bool = True
    one_way: bool = False

    @property
    def file(self) -> str:
        return self.where.rpartition(":")[0]
