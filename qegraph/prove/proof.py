"""`prove`: rules against generated instances of both their sides, run as graphs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch

from qegraph.kernels import optional_kernels
from qegraph.lang.rule import Rule
from qegraph.prove import contractions as contractions  # registers its growers
from qegraph.prove import growers as growers
from qegraph.prove.batch import Sides, sides
from qegraph.prove.hints import Hints, hints_of
from qegraph.prove.judge import Case, Verdict, judge, scales_of
from qegraph.prove.leaves import Draw
from qegraph.prove.sampler import Reject, Sample, Sampler

_BATCH = 60
_MOST_CANDIDATES = 1500
"""Samples tried for one rule; few of those of a rule with many guards meet them all."""


@dataclass(frozen=True)
class Proof:
    """What came of the instances of one rule: samples that match, each with several draws of its inputs.

    candidates  samples that were tried; matched, those the rule matches.
    exact, within, refuted  instances: bit-equal, within the numeric contract, neither.
    flips       of elements codes are 1 LSB off, in instances within the contract.
    failures    the refuted ones, with what is wrong.
    """

    rule: Rule
    candidates: int
    matched: int
    exact: int
    within: int
    refuted: int
    flips: int
    elements: int
    seconds: float
    failures: tuple[tuple[Case, Verdict], ...] = ()
    absent: tuple[str, ...] = ()
    """Kernels the rule asks for that this torch hasn't for this CPU, or not right: nothing could be run."""

    @property
    def instances(self) -> int:
        return self.exact + self.within + self.refuted

    def __str__(self) -> str:
        if self.absent:
            return f"{self.rule.name}: not run: {', '.join(self.absent)} isn't there, or not right, on this machine"
        parts = [f"{self.exact} exact"]
        if self.within:
            flipped = f" ({self.flips} of {self.elements} codes 1 LSB off)" if self.flips else ""
            parts.append(f"{self.within} within the contract{flipped}")
        if self.refuted:
            parts.append(f"{self.refuted} REFUTED")
        return f"{self.rule.name}: {self.instances} instances: {', '.join(parts)}"


def prove_rule(rule: Rule, instances: int = 200, seed: int = 0) -> Proof:
    """Sample until `instances` instances match, or too many samples don't."""
    start = time.perf_counter()
    hints, indices, seeds = hints_of(rule), count(), count(seed * 1_000_000)
    absent = tuple(sorted(hints.kernels - set(optional_kernels())))
    if absent:
        return Proof(rule, 0, 0, 0, 0, 0, 0, 0, 0.0, absent=absent)
    draws = tuple(Draw)
    tally: Counter[str] = Counter()
    failures: list[tuple[Case, Verdict]] = []
    candidates = matched = flips = elements = 0
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        while matched * len(draws) < instances and candidates < _MOST_CANDIDATES:
            rate = max(matched / candidates, 0.02) if candidates else 1.0
            wanted = int((instances / len(draws) - matched) / rate * 1.2) + 4
            batch = samples(rule, hints, seeds, indices, min(max(wanted, 8), 4 * _BATCH))
            candidates += len(batch)
            if not batch:
                break
            found = sides(rule, batch)
            matched += len(found.samples)
            for draw in draws:
                for case, verdict in judged(found, draw, generator):
                    tally[verdict.outcome] += 1
                    elements += verdict.elements
                    flips += verdict.flips if verdict.outcome == "within" else 0
                    if verdict.outcome == "refuted":
                        failures.append((case, verdict))
    return Proof(
        rule, candidates, matched, tally["exact"], tally["within"], tally["refuted"], flips, elements,
        time.perf_counter() - start, tuple(failures),
    )  # fmt: skip


def samples(
    rule: Rule, hints: Hints, seeds: Iterator[int], indices: "count[int]", wanted: int, tiny: bool = False
) -> list[Sample]:
    """As many as wanted, or as there are among thrice as many tries."""
    found: list[Sample] = []
    for _ in range(3 * wanted):
        if len(found) == wanted:
            break
        try:
            found.append(Sampler(rule, hints, next(seeds), indices, tiny).sample())
        except Reject:
            continue
    return found


def judged(of: Sides, draw: Draw, generator: torch.Generator) -> Iterator[tuple[Case, Verdict]]:
    """Every sample on one draw of its inputs."""
    values: dict[int, torch.Tensor] = {}
    for sample in of.samples:
        scales = scales_of(sample)
        for index, leaf in sample.leaves.items():
            values[index] = leaf.drawn(draw, scales, generator)
    order = [int(str(node.target).removeprefix("x")) for node in of.left.graph.nodes if node.op == "placeholder"]
    outputs = of.left(*(values[index] for index in order))
    position = 0
    for number, sample in enumerate(of.samples):
        expected = tuple(outputs[position : position + len(sample.terms)])
        position += len(sample.terms)
        case = Case(sample, draw, {index: values[index] for index in sample.leaves}, of.right[number])
        yield case, judge(case, expected)


def prove(rules: Sequence[Rule], instances: int = 200, seed: int = 0) -> Iterator[Proof]:
    for rule in rules:
        yield prove_rule(rule, instances, seed)
