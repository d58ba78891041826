"""Rule -> egglog statements: the rewrite, its match table, and the near-miss tables of its guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from qegraph.lang.guards import ROOT
from qegraph.lang.rule import Rule
from qegraph.lang.terms import CONSTRUCTORS, Expr

RULESET = "rewrites"
DIAGNOSIS = "diagnosis"


def statements(rule: Rule) -> Iterator[str]:
    """The rewrite. `match NAME(roots..., variables...)` records each time it holds; rules only add.

    A one-way rule hides the e-nodes it has matched, so that nothing is made of them any more.
    """
    roots = _roots(rule)
    yield f"(relation {match_table(rule)} ({' '.join(['T' for _ in roots] + list(rule.variables.values()))}))"
    guards = " ".join(fact for guard in rule.guards for fact in guard.facts)
    row = f"({match_table(rule)} {' '.join([*roots, *rule.variables])})"
    unions = " ".join(f"(union {root} {each.rhs})" for root, each in zip(roots, rule.equalities, strict=True))
    for number, lefts in enumerate(_lefts(rule)):
        given_up = "".join(f" (subsume {lhs})" for lhs in lefts if rule.one_way)
        yield (
            f"(rule ({_found(roots, lefts)} {guards}) ({unions} {row}{given_up}) "
            f':ruleset {RULESET} :name "{rule.name}/{number}")'
        )


def diagnosis(rule: Rule) -> Iterator[str]:
    """`near NAME/i (root)`: the structure and the first i guards hold; i = 0 is the structure alone."""
    roots = _roots(rule)
    for count in range(len(rule.guards) + 1):
        table = near_table(rule, count)
        facts = " ".join(fact for guard in rule.guards[:count] for fact in guard.facts)
        yield f"(relation {table} (T))"
        rows = " ".join(f"({table} {root})" for root in roots)
        for number, lefts in enumerate(_lefts(rule)):
            yield f'(rule ({_found(roots, lefts)} {facts}) ({rows}) :ruleset {DIAGNOSIS} :name "{table}/{number}")'


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


def near_table(rule: Rule, count: int) -> str:
    return f"near-{rule.name}-{count}"


def orders(term: Any) -> list[Any]:
    """`term` with the operands of commutative words in either order; numbers already stand in their place."""
    if not isinstance(term, Expr) or term.args is None:
        return [term]
    variants = [list(choice) for choice in product(*(orders(arg) for arg in term.args))]
    constructor = CONSTRUCTORS.get(term.head)
    if constructor is not None and constructor.commutative and not _is_scalar(term.args[1]):
        variants += [choice[::-1] for choice in variants]
    return [type(term)(term.head, tuple(choice)) for choice in variants]


def _is_scalar(arg: Any) -> bool:
    return isinstance(arg, Expr) and arg.head == "Scalar"
