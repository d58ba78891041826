"""`qegraph rules check`: what can be said of rules without their author; loading them has checked their terms."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qegraph.lang.rule import Rule
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


def proved(rules: Sequence[Rule], instances: int, seed: int, jobs: int) -> Iterator[Checked] | None:
    """Each rule's two sides compared on many instances; None where this installation has no `qegraph.prove`."""
    try:
        module: Any = importlib.import_module("qegraph.prove")
    except ModuleNotFoundError as error:
        if error.name != "qegraph.prove":
            raise
        return None
    proofs = module.prove(rules, instances=instances, seed=seed, jobs=jobs)
    return (_of_proof(rule, proof) for rule, proof in zip(rules, proofs, strict=True))


def _of_proof(rule: Rule, proof: Any) -> Checked:
    refuted = Finding(rule, "proof", str(proof)) if proof.refuted else None
    return Checked(rule, str(proof).removeprefix(f"{rule.name}: "), refuted, proof.script if refuted else "")
