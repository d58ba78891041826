"""`qegraph rules check`: what can be said of rules without their author; loading them has checked their terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from qegraph.lang.rule import Rule
from qegraph.prove import Proof, stamps
from qegraph.workshop import growth
from qegraph.workshop.duplicates import duplicates
from qegraph.workshop.findings import Finding
from qegraph.workshop.reachable import unreachable

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Checked:
    """A line about one rule that was measured or proved, and what is wrong with it, if anything.

    script  a program that shows it, for a refuted rule.
    """

    rule: Rule
    line: str
    finding: Finding | None = None
    script: str = ""


def static(rules: Sequence[Rule], among: Sequence[Rule]) -> list[Finding]:
    """Duplicates of rules in `among`, and rules that can't match beside them."""
    return [*duplicates(rules, among), *unreachable(rules, among)]


def grown(rules: Sequence[Rule], among: Sequence[Rule], progress: Progress) -> Iterator[Checked]:
    """Each rule saturated beside the others: does it end, and how large does the e-graph get?"""
    saturated = growth.subjects(progress)
    for rule in rules:
        found = list(growth.growth(rule, among, saturated))
        yield Checked(rule, growth.figure(rule, found), growth.finding(rule, found))


def stamped(rules: Sequence[Rule]) -> list[Finding]:
    """Stamps that no longer say anything about their rules."""
    found = ((rule, stamps.stamp_of(rule)) for rule in rules)
    reasons = ((rule, stamps.stale(rule, each)) for rule, each in found if each is not None)
    return [Finding(rule, "stale stamp", f"{reason}; prove it anew: --stamp") for rule, reason in reasons if reason]


def proved(proofs: Iterable[Proof]) -> Iterator[Checked]:
    """Each rule's two sides compared on many instances."""
    return map(_of_proof, proofs)


def _of_proof(proof: Proof) -> Checked:
    told = str(proof).removeprefix(f"{proof.rule.name}: ")
    if proof.outcome not in ("refuted", "too few"):
        return Checked(proof.rule, told)
    why = "".join(f"\n    {reason}" for reason in proof.reasons)
    return Checked(proof.rule, told, Finding(proof.rule, "proof", told + why), proof.script)
