"""`@rule`: a function becomes a `Rule`, or a RuleError says what it lacks, where, and what to write instead."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NoReturn, get_type_hints, overload

from qegraph.errors import RuleError, WordError, nearest
from qegraph.lang import fact_check
from qegraph.lang.guards import ROOT
from qegraph.lang.primitives import PRIMITIVES
from qegraph.lang.rule import KEBAB, Left, Rewrite, Rule
from qegraph.lang.terms import CONSTRUCTORS, SORT_OF_PYTHON, SORTS, Expr, described, sort_named, subterms
from qegraph.lang.trees import FactProblem

_BINDERS = {
    "Dims": "shape_is(x, {0})",
    "String": "has_dtype(x, {0})",
    "i64": "last_dim_is(x, {0}) or outputs_are(w, {0})",
    "F": "gates(f, {0})",
}
"""Guards that bind a variable of a sort; of the other sorts only left sides bind many."""


@overload
def rule(function: Callable[..., Rewrite], /) -> Rule: ...
@overload
def rule(*, exact: bool = True) -> Callable[[Callable[..., Rewrite]], Rule]: ...
def rule(function: Callable[..., Rewrite] | None = None, /, *, exact: bool = True) -> Any:
    """Make the function a `Rule`: its name is the rule's name, its parameters the pattern variables.

    exact  False for a rule that doesn't keep the numeric contract: it is off unless named.
    Raises RuleError for what is no rule.
    """
    if function is None:
        return lambda actual: _make(actual, exact)  # pyright: ignore[reportUnknownLambdaType]
    return _make(function, exact)


@dataclass(frozen=True)
class _Place:
    """A rule that is being made."""

    name: str
    where: str

    def refuse(self, problem: str, cause: BaseException | None = None) -> NoReturn:
        raise RuleError(f"rule {self.name} at {self.where}: {problem}") from cause


def _make(function: Callable[..., Rewrite], exact: bool) -> Rule:
    if not isinstance(function, FunctionType):
        raise RuleError(f"@rule stands before a function `def name(x: Tensor, ...) -> Rewrite`, got {function!r}")
    place = _place(function)
    if not KEBAB.fullmatch(place.name):
        plain = "_".join(part for part in _snake(function.__name__).split("_") if part)
        place.refuse(f"a rule's name is lower-case words; name the function {plain or 'after what it says'}")
    law = inspect.getdoc(function)
    if not law:
        place.refuse("it has no docstring; expected its law in one line, as in `dq(x) + dq(y) = ...`")
    variables = _variables(function, place)
    made = _called(function, variables, place)
    made_rule = Rule(
        name=place.name,
        law=law.splitlines()[0],
        equalities=made.equalities,
        guards=made.guards,
        variables={key: value.sort for key, value in variables.items()},
        where=place.where,
        exact=exact,
        one_way=made.is_one_way,
    )
    _check_terms(made_rule, place)
    _check_bound(made_rule, place)
    _check_guards(made_rule, place)
    return made_rule


def _place(function: FunctionType) -> _Place:
    code = function.__code__
    return _Place(function.__name__.replace("_", "-"), f"{code.co_filename}:{code.co_firstlineno}")


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name if each.isalnum() or each == "_")


# -- the signature -----------------------------------------------------------------------------------------------------


def _variables(function: FunctionType, place: _Place) -> dict[str, Expr]:
    try:
        hints = get_type_hints(function)
    except Exception as error:  # annotations are expressions of the author's
        _refuse_error(error, place, "its annotations")
    variables: dict[str, Expr] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            place.refuse(f"{parameter} is no pattern variable; write them out, one parameter each")
        if parameter.default is not parameter.empty:
            place.refuse(f"parameter {name} has a default; a pattern variable stands for any value, so it can't")
        variables[name] = _sort_of(name, hints.get(name), place)(name)
    return variables


def _sort_of(name: str, hint: Any, place: _Place) -> type[Expr]:
    if isinstance(hint, type) and issubclass(hint, Expr):
        return hint
    sorts = [each.__name__ for each in SORTS]
    if hint is None:
        place.refuse(f"parameter {name} needs a sort, e.g. `{name}: Tensor`; there are {', '.join(sorts)}")
    found = getattr(hint, "__name__", str(hint))
    meant = SORT_OF_PYTHON.get(hint)
    near = f"; did you mean {meant.__name__}?" if meant else nearest(found, sorts)
    if found in sorts:
        near = f"; import {found} from qegraph.lang, this one is of {hint.__module__}"
    return place.refuse(f"parameter {name} is annotated {found}, which is no sort of the rule language{near}")


# -- the body ----------------------------------------------------------------------------------------------------------


def _called(function: FunctionType, variables: Mapping[str, Expr], place: _Place) -> Rewrite:
    try:
        made: object = function(**variables)
    except Exception as error:  # whatever the author's code raises
        _refuse_error(error, _line(error, function, place), "its function")
    if isinstance(made, Rewrite):
        return made
    if made is None:
        place.refuse("it returns nothing; expected `return rewrite(left).to(right)`")
    if isinstance(made, Left):
        place.refuse(f"rewrite({made.lhs}) has no right side; write rewrite(left).to(right)")
    return place.refuse(f"it must return rewrite(left).to(right), got {described(made)}")


def _line(error: BaseException, function: FunctionType, place: _Place) -> _Place:
    """The place with the line of the rule's own function that failed."""
    code = function.__code__
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    return _Place(place.name, f"{code.co_filename}:{lines[-1]}") if lines else place


def _refuse_error(error: Exception, place: _Place, what: str) -> NoReturn:
    if isinstance(error, (WordError, RuleError)):
        place.refuse(str(error), error)
    if isinstance(error, NameError) and error.name:
        import qegraph.lang as language

        known = [name for name in vars(language) if not name.startswith("_")]
        if error.name in known:
            place.refuse(f"{error.name} isn't imported; write `from qegraph.lang import {error.name}`", error)
        place.refuse(f"there is no {error.name}{nearest(error.name, known)}", error)
    place.refuse(f"{what} raises {type(error).__name__}: {error}", error)


# -- the terms and the guards ------------------------------------------------------------------------------------------


def _check_terms(made: Rule, place: _Place) -> None:
    """All heads are words, or functions that can be computed again when matches are explained."""
    for each in made.equalities:
        for side, term in (("left", each.lhs), ("right", each.rhs)):
            for part in subterms(term):
                if not part.is_variable and part.head not in CONSTRUCTORS and part.head not in PRIMITIVES:
                    known = [*PRIMITIVES, *CONSTRUCTORS]
                    hint = nearest(part.head, known) or f"; numbers and lists know {', '.join(PRIMITIVES)}"
                    place.refuse(f"{part.head} on the {side} side is no word and no function{hint}")
            _check(str(term), made.variables, place, f"the {side} side")


def _check_bound(made: Rule, place: _Place) -> None:
    """Every parameter occurs on a left side or is bound by a guard."""
    left = {term.head for each in made.equalities for term in subterms(each.lhs) if term.is_variable}
    binds = (bind for guard in made.guards for bind in guard.binds)
    bound = left | {term.head for bind in binds for term in subterms(bind) if term.is_variable}
    right = {term.head for each in made.equalities for term in subterms(each.rhs) if term.is_variable}
    for name, sort in made.variables.items():
        if name in bound:
            continue
        used = [guard.name for guard in made.guards if any(name in _names(fact) for fact in guard.facts)]
        where = "on the right side only" if name in right else f"in guard {used[0]} only" if used else "nowhere"
        binder = f", such as {_BINDERS[sort].format(name)}" if sort in _BINDERS else ""
        place.refuse(
            f"{name} ({sort_named(sort)}) stands {where}, so nothing binds it; "
            f"it must occur on the left side, or be bound by a guard{binder}{nearest(name, left)}"
        )


def _names(fact: str) -> set[str]:
    return set(fact.replace("(", " ").replace(")", " ").split())


def _check_guards(made: Rule, place: _Place) -> None:
    """Facts of all guards are asked together, so they share the variables they bind."""
    bound = {**made.variables, ROOT: "T"}
    facts = [(fact, f"guard {guard.name}: fact `{fact}`") for guard in made.guards for fact in guard.facts]
    own = dict.fromkeys((name for fact, _ in facts for name in fact_check.own(fact)), "")
    for fact, what in facts:
        _check(fact, {**own, **bound}, place, what)


def _check(text: str, bound: Mapping[str, str], place: _Place, what: str) -> None:
    try:
        fact_check.check(text, bound)
    except FactProblem as problem:
        place.refuse(f"{what}: {problem}", problem)
