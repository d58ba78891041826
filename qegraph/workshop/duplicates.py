"""Rules that say what another one says: the same equality, whatever its variables are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from qegraph.compile_rules import orders
from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, subterms, text_of
from qegraph.workshop.findings import Finding

Equalities = tuple[tuple[str, str], ...]


def duplicates(rules: Sequence[Rule], among: Sequence[Rule]) -> Iterator[Finding]:
    """Findings for those of `rules` whose equalities another one of `among` states too.

    A rule whose guards are a part of the other's holds wherever the other does.
    """
    known: dict[Equalities, list[Rule]] = {}
    for other in among:
        for form in forms(other):
            known.setdefault(form[0], []).append(other)
    for rule in rules:
        own = min(forms(rule))
        others = {other.name: other for other in known.get(own[0], []) if other is not rule}
        for other in others.values():
            yield Finding(rule, "duplicate", _said(rule, other))


def _said(rule: Rule, other: Rule) -> str:
    same = f"{other.name} at {other.where} states the same equality"
    mine = min(forms(rule))[1]
    theirs = next(facts for form, facts in forms(other) if form == min(forms(rule))[0])
    if mine == theirs:
        return f"{same} under the same guards; one of the two is enough"
    if mine > theirs:
        return f"{same} and asks for less; it holds wherever this one does"
    if mine < theirs:
        return f"{same} and asks for more; this one holds wherever that one does"
    return f"{same} under other guards; if either of them is enough, one rule may say so"


def forms(rule: Rule) -> Iterator[tuple[Equalities, frozenset[str]]]:
    """The equalities, in all orders of commutative operands, with variables numbered as they occur; facts of guards."""
    for lefts in product(*(orders(each.lhs) for each in rule.equalities)):
        names: dict[str, str] = {}
        terms = [term for left, each in zip(lefts, rule.equalities, strict=True) for term in (left, each.rhs)]
        for term in (*terms, *(bind for guard in rule.guards for bind in guard.binds)):
            for part in subterms(term):
                if part.is_variable:
                    names.setdefault(part.head, f"?{len(names)}")
        texts = [_renamed(term, names) for term in terms]
        facts = frozenset(
            " ".join(_word(word, names) for word in fact.replace("(", "( ").replace(")", " )").split())
            for guard in rule.guards
            for fact in guard.facts
        )
        yield tuple(zip(texts[::2], texts[1::2], strict=True)), facts


def _renamed(term: Expr, names: dict[str, str]) -> str:
    if term.is_variable:
        return names[term.head]
    parts = (_renamed(arg, names) if isinstance(arg, Expr) else text_of(arg) for arg in term.args or ())
    return f"({' '.join([term.head, *parts])})"


def _word(word: str, names: dict[str, str]) -> str:
    return names.get(word, word)
