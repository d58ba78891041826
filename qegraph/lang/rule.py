"""One definition per rule: pattern, guards, replacement, law and name in one record; all else derives from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from qegraph.errors import RuleError
from qegraph.lang.terms import Expr, Tensor, subterms


@dataclass(frozen=True)
class Guard:
    """A named fact with a reason in words.

    facts   egglog facts, evaluated in the e-graph; `binds` are the variables they introduce.
    reason  the sentence shown when the guard is the first to fail, with what its facts are about there.
    fix     what the author of the graph can do about it; empty if nothing but what the reason says.
    """

    name: str
    reason: str
    facts: tuple[str, ...]
    binds: tuple[Expr, ...] = ()
    fix: str = ""


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

    def and_(self, lhs: Tensor) -> _Left:
        """`rewrite(a).to(b).and_(c).to(d)`: wherever a and c both stand and the guards hold."""
        return _Left(lhs, self.equalities)

    def when(self, *guards: Guard) -> Rewrite:
        return replace(self, guards=self.guards + guards)

    def one_way(self) -> Rewrite:
        """The right side may stand for the left one, never the reverse: what was matched is given up for it."""
        return replace(self, is_one_way=True)


@dataclass(frozen=True)
class _Left:
    lhs: Tensor
    before: tuple[Equality, ...] = ()

    def to(self, rhs: Tensor) -> Rewrite:
        return Rewrite((*self.before, Equality(self.lhs, rhs)))


def rewrite(lhs: Tensor) -> _Left:
    """`rewrite(lhs).to(rhs).when(guards)`: wherever lhs stands and the guards hold, rhs is equal to it."""
    return _Left(lhs)


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


def rule(function: Callable[..., Rewrite] | None = None, *, exact: bool = True) -> Any:
    """Make the function a `Rule`: its name is the rule's name, its parameters the pattern variables."""
    if function is None:
        return lambda actual: _make(actual, exact)  # pyright: ignore[reportUnknownLambdaType]
    return _make(function, exact)


def _make(function: Callable[..., Rewrite], exact: bool) -> Rule:
    name = function.__name__.replace("_", "-")
    code = function.__code__
    where = f"{code.co_filename}:{code.co_firstlineno}"
    law = inspect.getdoc(function)
    if not law:
        raise RuleError(f"rule {name} at {where} has no docstring; expected its law in one line")
    hints = get_type_hints(function)
    variables: dict[str, Expr] = {}
    for parameter in inspect.signature(function).parameters:
        sort = hints.get(parameter)
        if not (isinstance(sort, type) and issubclass(sort, Expr)):
            raise RuleError(f"rule {name} at {where}: parameter {parameter} needs a sort, e.g. `{parameter}: Tensor`")
        variables[parameter] = sort(parameter)
    made = function(**variables)
    made_rule = Rule(
        name=name,
        law=law.splitlines()[0],
        equalities=made.equalities,
        guards=made.guards,
        variables={key: value.sort for key, value in variables.items()},
        where=where,
        exact=exact,
        one_way=made.is_one_way,
    )
    _check_bound(made_rule)
    return made_rule


def _check_bound(made: Rule) -> None:
    """Every variable of a right side and every parameter occurs on a left one or is bound by a guard."""
    bound = {term.head for each in made.equalities for term in subterms(each.lhs) if term.is_variable}
    bound |= {term.head for guard in made.guards for bind in guard.binds for term in subterms(bind) if term.is_variable}
    missing = sorted(set(made.variables) - bound)
    if missing:
        raise RuleError(
            f"rule {made.name} at {made.where}: {', '.join(missing)} is never bound; "
            "every parameter must occur on the left side or be bound by a guard"
        )
