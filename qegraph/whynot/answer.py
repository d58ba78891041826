"""From how near rules came to an answer: the best one first, and what is behind a missing word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, subterms
from qegraph.nearmiss import Near, Tables, applied, found_instead, nearest, observed
from qegraph.nearmiss import words as in_words
from qegraph.snapshot import ClassRef
from qegraph.whynot.usage import KERNELS, Usage
from qegraph.whynot.verdict import Verdict, WhyNot

_CHAIN = 3
"""How many rules behind one another are asked why the word that is expected isn't there."""
_WRAPPERS = frozenset({"Cast", "Moved", "Part"})


class Answers:
    """rules  all that may be behind a missing word, on or off."""

    def __init__(self, tables: Tables, usage: Usage, rules: Sequence[Rule]) -> None:
        self.tables, self.usage, self.rules = tables, usage, rules
        self.on = frozenset(rule.name for rule in usage.found.rules)
        self.limit = usage.found.saturation.limit

    def best(self, node: str, near: Sequence[Near], named: bool) -> WhyNot:
        """The answer for a node, of all rules that were looked at; `named`: there is one rule only."""
        if not near:
            return WhyNot(node, reason="no rule has this word as its outermost one", observed=self._described(node))
        answers = [(each, self._answer(node, each, _CHAIN)) for each in near]
        answers.sort(key=lambda each: self._rank(*each), reverse=True)
        first, best = answers[0]
        others = [
            each.short
            for near, each in answers[1:]
            if near.complete and near.eclass == first.eclass and _makes_kernel(near.rule)
        ]
        answer = replace(best, also=() if named else tuple(dict.fromkeys(others)))
        return self._priced(answer, first)

    def _described(self, node: str) -> str:
        eclass = self.tables.value_class[self.tables.program.source_nodes[node]]
        return in_words.described(self.tables, eclass)

    def _rank(self, near: Near, answer: WhyNot) -> tuple[int, float, int]:
        """What came nearest to a kernel; of equals, what lacks fewer guards."""
        makes_kernel = _makes_kernel(near.rule)
        if makes_kernel and answer.verdict == "in use":
            tier = 5
        elif makes_kernel and (near.complete or answer.verdict == "not chosen"):
            tier = 4
        elif makes_kernel and answer.root is not answer and answer.root.guard:
            tier = 3
        elif answer.verdict == "in use":
            tier = 2
        else:
            tier = 1 if near.complete else 0
        return tier, near.score, near.held - len(near.rule.guards)

    def _answer(self, node: str, near: Near, chain: int) -> WhyNot:
        rule = near.rule
        answer = WhyNot(
            node, rule.name, rule.law, at=in_words.name(self.tables, near.eclass),
            matched=(max(0, near.structure.matched), near.structure.size), note=self._note(near),
        )  # fmt: skip
        if applied(self.tables, rule, near.eclass):
            chosen = self.usage.led_to(rule, near.eclass)
            verdict: Verdict = "not chosen" if chosen is None else "in use"
            whole = answer.matched[1], answer.matched[1]
            return replace(answer, verdict=verdict, matched=whole, made=self._made(chosen))
        if near.holds:
            return self._held_back(answer, near)
        if near.guard is not None:
            return replace(
                answer, verdict="guard fails", guard=near.guard.name, reason=near.guard.reason,
                observed=observed(self.tables, near), fix=near.guard.fix,
            )  # fmt: skip
        mismatch = near.structure.mismatch
        assert mismatch is not None
        return replace(
            answer,
            mismatch=found_instead(self.tables, mismatch),
            cause=self._cause(node, near, chain) if chain else None,
        )

    def _held_back(self, answer: WhyNot, near: Near) -> WhyNot:
        """It would hold, but wasn't tried."""
        if near.rule.name not in self.on:
            fix = f'add "{near.rule.name}" to the rules given to optimize'
            return replace(answer, verdict="off by default", fix=fix, note="")
        return replace(
            answer, verdict="search stopped", fix="give it a larger budget: optimize(gm, budget=Budget(...))"
        )

    def _note(self, near: Near) -> str:
        if near.rule.name not in self.on:
            return "off by default" if not near.rule.exact else "not among the rules given"
        return f"the search stopped at {self.limit}" if self.limit else ""

    def _made(self, chosen: int | None) -> str:
        if chosen is None:
            return ""
        node = self.tables.snapshot.nodes[chosen]
        return f"{node.op} computes {in_words.described(self.tables, node.eclass)}"

    def _cause(self, node: str, near: Near, chain: int) -> WhyNot | None:
        """Why the word that was expected isn't there: the nearest of the rules that would make it."""
        mismatch = near.structure.mismatch
        if mismatch is None or not isinstance(mismatch.value, ClassRef) or not isinstance(mismatch.pattern, Expr):
            return None
        place = mismatch.value.number
        words = self.tables.words(place)
        makers = [
            rule
            for rule in self.rules
            if rule.name != near.rule.name
            and any(each.lhs.head in words and _made(each.rhs) == mismatch.pattern.head for each in rule.equalities)
        ]
        found = [nearest(self.tables, rule, place) for rule in makers]
        if mismatch.pattern.head not in KERNELS:
            found = [each for each in found if each.complete]
        if not found:
            return None
        answers = [(each, self._answer(node, each, chain - 1)) for each in found]
        return max(answers, key=lambda each: self._rank(*each))[1]

    def _priced(self, answer: WhyNot, near: Near) -> WhyNot:
        """With the costs of both forms, if it is they that decide."""
        if answer.verdict != "not chosen":
            return answer
        costs = self.usage.selection.cost, self.usage.price_with(near.rule, near.eclass)
        is_product = {"Gemm", "Matmul"} & set(self.tables.words(near.eclass))
        fix = 'require="int8" takes int8 kernels at any price' if is_product else ""
        return replace(answer, costs=costs, fix=fix)


def _makes_kernel(rule: Rule) -> bool:
    """It makes a kernel of other words, or has one take in what stands around it."""
    return any(
        each.lhs.head not in KERNELS and any(term.head in KERNELS for term in subterms(each.rhs))
        for each in rule.equalities
    )


def _made(rhs: Expr) -> str:
    """The word a right side is, but for how it is rounded or arranged."""
    while rhs.head in _WRAPPERS and rhs.args:
        rhs = next(arg for arg in rhs.args if isinstance(arg, Expr) and arg.sort == "T")
    return rhs.head
