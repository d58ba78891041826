"""Does a rule end, and by how much does the e-graph grow by it? Chains are saturated at two lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log2

import torch

from qegraph.compile_rules import match_table
from qegraph.encode import encode
from qegraph.lang.rule import Rule
from qegraph.program import Program
from qegraph.ready import fresh
from qegraph.saturate import Budget, saturate, size
from qegraph.workshop.findings import Finding
from qegraph.workshop.subjects import CHAINS, MODELS, models

BUDGET = Budget(rounds=40, seconds=10.0, nodes=50_000)
LENGTH = 6
"""Of chains; they are saturated at twice this length too."""

MOST_RATIO = 4.0
MOST_POWER = 1.5
"""Above which growth is a finding: e-nodes with the rule over without it; p, where a chain has length^p e-nodes."""


@dataclass(frozen=True)
class Size:
    """E-nodes of values after saturation, the limit that ended it (empty: a fixpoint), and the rules that matched."""

    nodes: int
    limit: str
    matched: frozenset[str]


@dataclass(frozen=True)
class Growth:
    """The e-graph of one program with and without a rule; of a chain the powers of its length it grows with, too."""

    subject: str
    with_rule: Size
    without: Size
    power: float | None = None
    power_without: float | None = None

    @property
    def ratio(self) -> float:
        return self.with_rule.nodes / self.without.nodes

    def problem(self) -> str:
        """What is wrong with this growth; empty if nothing is."""
        if self.with_rule.limit and not self.without.limit:
            return f"it doesn't end: {self.subject} stopped at {self.with_rule.limit}, without it at a fixpoint"
        if self.ratio > MOST_RATIO:
            sizes = f"{self.without.nodes} to {self.with_rule.nodes} e-nodes"
            return f"{self.subject} grows from {sizes}, {self.ratio:.1f} times"
        if (
            self.power is not None
            and self.power_without is not None
            and self.power > max(MOST_POWER, self.power_without)
        ):
            return f"{self.subject} grows like length^{self.power:.1f}, without it like length^{self.power_without:.1f}"
        return ""


class Saturated:
    """Programs saturated with one set of rules after another; what has been done is not done again."""

    def __init__(self, programs: Sequence[tuple[str, Program]], budget: Budget = BUDGET) -> None:
        self.programs = dict(programs)
        self._budget = budget
        self._sizes: dict[tuple[str, tuple[int, ...]], Size] = {}

    def size(self, name: str, rules: Sequence[Rule]) -> Size:
        key = (name, tuple(map(id, rules)))
        if key not in self._sizes:
            with torch.no_grad():
                engine = fresh(rules)
                encode(self.programs[name], engine)
                ended = saturate(engine, self._budget)
            rows = engine.sizes()
            matched = frozenset(rule.name for rule in rules if rows.get(match_table(rule)))
            self._sizes[key] = Size(size(engine), ended.limit, matched)
        return self._sizes[key]


def subjects(progress: Callable[[str], None]) -> Saturated:
    """The programs growth is measured on: small models of the zoo, and chains of `LENGTH` and twice that."""
    programs = [(subject.name, subject.program()) for subject in models(MODELS, "small", progress)]
    chains = [chain.subject(length) for chain in CHAINS for length in (LENGTH, 2 * LENGTH)]
    return Saturated(programs + [(chain.name, chain.program()) for chain in chains])


def growth(rule: Rule, others: Sequence[Rule], saturated: Saturated) -> Iterator[Growth]:
    """What `rule` does to the e-graph of every model and chain, beside the rules `others`."""
    without = tuple(other for other in others if other.name != rule.name)
    whole = tuple(others) if rule in others else (*without, rule)

    def pair(name: str) -> tuple[Size, Size]:
        """With the rule and without it; where it never matches they are the same."""
        size = saturated.size(name, whole)
        return size, saturated.size(name, without) if rule.name in size.matched else size

    for name in MODELS:
        yield Growth(name, *pair(name))
    for chain in CHAINS:
        short, long = (pair(f"{chain.name} x {length}") for length in (LENGTH, 2 * LENGTH))
        powers = [log2(doubled.nodes / once.nodes) for once, doubled in zip(short, long, strict=True)]
        yield Growth(f"{chain.name} x {2 * LENGTH}", *long, *powers)


def finding(rule: Rule, grown: Sequence[Growth]) -> Finding | None:
    """The worst of a rule's growths, if it is a finding."""
    problems = [each.problem() for each in sorted(grown, key=lambda each: (not each.with_rule.limit, -each.ratio))]
    worst = next(filter(None, problems), "")
    return Finding(rule, "growth", worst) if worst else None


def figure(rule: Rule, grown: Sequence[Growth]) -> str:
    """The growth of one rule in a line."""
    if not any(rule.name in each.with_rule.matched for each in grown):
        return f"matches in none of the {len(grown)} models and chains growth is measured on"
    worst = max(grown, key=lambda each: each.ratio)
    ended = "ends" if not any(each.with_rule.limit for each in grown) else "doesn't end"
    power = max((each.power for each in grown if each.power is not None), default=0.0)
    return f"{ended}; e-nodes x {worst.ratio:.2f} at most ({worst.subject}), chains like length^{power:.2f}"
