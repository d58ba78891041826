"""Rule -> egglog statements: the rewrite, its match table, and the near-miss tables of its guards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from qegraph.lang.guards import ROOT
from qegraph.lang.rule import Rule
from qegraph.lang.terms import CONSTRUCTORS, Expr

RULESET = "rewrites"
DIAGNOSIS = "diagnosis"


def statements(rule: Rule) -> Iterator[str]:
    """The rewrite. `match NAME(root, variables...)` records each time it holds; rules only add.

    A one-way rule hides the e-node it has matched, so that nothing is made of it any more.
    """
    yield f"(relation {match_table(rule)} (T {' '.join(rule.variables.values())}))"
    guards = " ".join(fact for guard in rule.guards for fact in guard.facts)
    row = f"({match_table(rule)} {ROOT} {' '.join(rule.variables)})"
    for number, lhs in enumerate(orders(rule.lhs)):
        given_up = f" (subsume {lhs})" if rule.one_way else ""
        yield (
            f"(rule ((= {ROOT} {lhs}) {guards}) ((union {ROOT} {rule.rhs}) {row}{given_up}) "
            f':ruleset {RULESET} :name "{rule.name}/{number}")'
        )


def diagnosis(rule: Rule) -> Iterator[str]:
    """`near NAME/i (root)`: the structure and the first i guards hold; i = 0 is the structure alone."""
    for count in range(len(rule.guards) + 1):
        table = near_table(rule, count)
        facts = " ".join(fact for guard in rule.guards[:count] for fact in guard.facts)
        yield f"(relation {table} (T))"
        for number, lhs in enumerate(orders(rule.lhs)):
            yield (
                f'(rule ((= {ROOT} {lhs}) {facts}) (({table} {ROOT})) :ruleset {DIAGNOSIS} :name "{table}/{number}")'
            )


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
