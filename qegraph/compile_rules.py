"""Rule -> egglog statements: the rewrite and its match table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import product
from typing import Any

from qegraph.lang.fact_check import literal
from qegraph.lang.guards import ROOT
from qegraph.lang.rule import Rule
from qegraph.lang.terms import CONSTRUCTORS, Expr, subterms
from qegraph.lang.trees import Tree, read, written

RULESET = "rewrites"


def statements(rule: Rule, ruleset: str = RULESET) -> Iterator[str]:
    """The rewrite, in a ruleset. `match NAME(roots..., variables...)` records each time it holds; rules only add.

    A one-way rule hides the e-nodes it has matched, so that nothing is made of them any more.
    """
    roots = _roots(rule)
    yield f"(relation {match_table(rule)} ({' '.join(['T' for _ in roots] + list(rule.variables.values()))}))"
    guards = " ".join(_tests(rule))
    row = f"({match_table(rule)} {' '.join([*roots, *rule.variables])})"
    unions = " ".join(f"(union {root} {each.rhs})" for root, each in zip(roots, rule.equalities, strict=True))
    for number, lefts in enumerate(_lefts(rule)):
        given_up = "".join(f" (subsume {lhs})" for lhs in lefts if rule.one_way)
        yield (
            f"(rule ({_found(roots, lefts)} {guards}) ({unions} {row}{given_up}) "
            f':ruleset {ruleset} :name "{rule.name}/{number}")'
        )


def pairs(rule: Rule, ruleset: str, relation: str) -> Iterator[str]:
    """What the rule would call equal, as rows of a relation of two values; nothing is made equal."""
    roots = _roots(rule)
    guards = " ".join(_tests(rule))
    rows = " ".join(f"({relation} {root} {each.rhs})" for root, each in zip(roots, rule.equalities, strict=True))
    for number, lefts in enumerate(_lefts(rule)):
        yield f'(rule ({_found(roots, lefts)} {guards}) ({rows}) :ruleset {ruleset} :name "{ruleset}/{number}")'


def _tests(rule: Rule) -> Iterator[str]:
    """The facts of the guards. What one left side binds is compared, not joined.

    As an equation, `(= (dtype x) (dtype y))` is one more way from x to y, and egglog may take it before the pattern's:
    to all values of that dtype, quadratic in the size of the graph. Between several left sides it is the way there is.
    """
    lefts = [each.lhs for each in rule.equalities]
    bound = {str(each) for each in subterms(lefts[0]) if each.is_variable} if len(lefts) == 1 else set[str]()
    for fact in (fact for guard in rule.guards for text in guard.facts for fact in read(text)):
        match fact:
            case ["=", one, other] if _about(one, bound) and _about(other, bound):
                yield written(["value-eq", one, other])
            case _:
                yield written(fact)


def _about(term: Tree, bound: Set[str]) -> bool:
    """It has variables, all of them bound."""
    names = set(_variables(term))
    return bool(names) and names <= bound


def _variables(term: Tree) -> Iterator[str]:
    if isinstance(term, list):
        for each in term[1:]:
            yield from _variables(each)
    elif not literal(term):
        yield term


def _roots(rule: Rule) -> list[str]:
    """The variables of the values that are matched, one for each equality; guards know the first."""
    return [ROOT, *(f"{ROOT}-{number}" for number in range(1, len(rule.equalities)))]


def _lefts(rule: Rule) -> Iterator[tuple[Expr, ...]]:
    """The left sides, in all their orders."""
    return product(*(orders(each.lhs) for each in rule.equalities))


def _found(roots: Iterable[str], lefts: Iterable[Expr]) -> str:
    return " ".join(f"(= {root} {lhs})" for root, lhs in zip(roots, lefts, strict=True))


def match_table(rule: Rule) -> str:
    return f"match-{rule.name}"


def orders(term: Any) -> list[Any]:
    """`term` with the operands of commutative words in either order; numbers already stand in their place."""
    if not isinstance(term, Expr) or term.args is None:
        return [term]
    variants = [list(choice) for choice in product(*(orders(arg) for arg in term.args))]
    if swaps(term):
        variants += [choice[::-1] for choice in variants]
    return [type(term)(term.head, tuple(choice)) for choice in variants]


def swaps(term: Expr) -> bool:
    """The operands may stand in either order; a number always stands second."""
    constructor = CONSTRUCTORS.get(term.head)
    return constructor is not None and constructor.commutative and not any(map(_is_scalar, (term.args or ())[1:]))


def _is_scalar(arg: Any) -> bool:
    return isinstance(arg, Expr) and arg.head == "Scalar"
