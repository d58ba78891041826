"""`prove`: rules against generated instances of both their sides, run as graphs."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal

import torch

from qegraph.kernels import adds_in_32_bits, optional_kernels
from qegraph.lang.rule import Rule
from qegraph.lang.terms import subterms
from qegraph.prove.batch import Sides
from qegraph.prove.hints import Hints, hints_of
from qegraph.prove.instances import Judged, judged, samples, sides_of
from qegraph.prove.leaves import Draw
from qegraph.prove.script import script
from qegraph.prove.shrink import shrunk

_FIRST, _LARGEST = 64, 240
"""Samples of a batch; a rule may be refuted by few of them, if that is to `stop`."""
_FEW = 16
_MOST_CANDIDATES = 1500
"""Samples tried for one rule; few of those of a rule with many guards meet them all."""


@dataclass(frozen=True)
class Proof:
    """What came of the instances of one rule: samples that match, each with several draws of its inputs.

    wanted      how many instances were asked for. candidates  samples that were tried; matched, those the rule matches.
    exact, within, outside  instances: bit-equal, within the numeric contract, neither.
    flips       of elements codes are 1 LSB off, in instances within the contract.
    reasons     what is wrong with those outside, the commonest first; script shows the smallest, on its own.
    absent      kernels the rule asks for that aren't there, or not right, on this machine: nothing could be run.
    """

    rule: Rule
    wanted: int
    candidates: int = 0
    matched: int = 0
    exact: int = 0
    within: int = 0
    outside: int = 0
    flips: int = 0
    elements: int = 0
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    script: str = ""
    absent: tuple[str, ...] = ()

    @property
    def instances(self) -> int:
        return self.exact + self.within + self.outside

    @property
    def outcome(self) -> Literal["proved", "refuted", "too few", "inexact", "not run"]:
        """inexact: outside the contract, as a rule that is off by default may be."""
        if self.absent:
            return "not run"
        if self.outside:
            return "refuted" if self.rule.exact else "inexact"
        return "proved" if self.instances >= self.wanted else "too few"

    @property
    def refuted(self) -> bool:
        return self.outcome == "refuted"

    def __str__(self) -> str:
        if self.absent:
            return f"{self.rule.name}: not run: {', '.join(self.absent)} isn't there, or not right, on this machine"
        parts = [f"{self.exact} exact"]
        if self.within:
            flipped = f" ({self.flips} of {self.elements} codes 1 LSB off)" if self.flips else ""
            parts.append(f"{self.within} within the contract{flipped}")
        if self.outside:
            parts.append(f"{self.outside} {'REFUTED' if self.rule.exact else 'outside it (off by default)'}")
        told = f"{self.rule.name}: {self.instances} instances: {', '.join(parts)}"
        if self.outcome == "too few":
            told += f"; {self.wanted} were asked for, but of {self.candidates} samples it matches {self.matched}"
        return told


def prove(
    rules: Sequence[Rule], instances: int = 200, seed: int = 0, jobs: int = 1, stop: bool = False
) -> Iterator[Proof]:
    """A proof for each rule, in their order.

    instances  at least so many for a rule. stop  at the first draw of inputs that refutes a rule. jobs  processes; with
    more than one, a kernel that takes its process down refutes the rule.
    """
    if jobs == 1:
        yield from (prove_rule(rule, instances, seed, stop) for rule in rules)
        return
    with _pool(jobs) as pool:
        pending = [(rule, pool.submit(prove_rule, rule, instances, seed, stop)) for rule in rules]
        for rule, future in pending:
            yield _result(rule, future, instances, seed, stop)


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes: neither torch's threads nor egglog's survive a fork."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


def _result(rule: Rule, future: Future[Proof], instances: int, seed: int, stop: bool) -> Proof:
    """A process that dies takes all that is pending with it: each of those is proved again in one of its own."""
    try:
        return future.result()
    except BrokenProcessPool:
        pass
    try:
        with _pool(1) as pool:
            return pool.submit(prove_rule, rule, instances, seed, stop).result()
    except BrokenProcessPool:
        return Proof(rule, instances, outside=1, reasons=("a kernel of the right side took its process down",))


def _inexact(rule: Rule, hints: Hints) -> set[str]:
    """What the rule's contractions of codes would be run by, where it isn't exact: they are drawn from all codes."""
    sides = [side for each in rule.equalities for side in (each.lhs, each.rhs)]
    contracts = hints.accumulator or any(term.head == "QGemm" for side in sides for term in subterms(side))
    return {"int8 products that add in 32 bits"} if contracts and not adds_in_32_bits() else set()


def prove_rule(rule: Rule, instances: int = 200, seed: int = 0, stop: bool = False) -> Proof:
    """Sample until `instances` instances match, or too many samples don't; or until one is refuted, to `stop` there."""
    start = time.perf_counter()
    hints, seeds = hints_of(rule), count(seed * 1_000_000)
    if absent := (hints.kernels - set(optional_kernels())) | _inexact(rule, hints):
        return Proof(rule, instances, absent=tuple(sorted(absent)))
    tally = _Tally()
    candidates = matched = 0
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        while tally.instances < instances and candidates < _MOST_CANDIDATES and not (stop and tally.failures):
            rate = max(matched / candidates, 0.02) if candidates else 1.0
            wanted = int((instances / len(Draw) - matched) / rate * 1.2) + 8
            batch = samples(
                rule, hints, seeds, count(), min(wanted, _LARGEST if candidates else _FEW if stop else _FIRST)
            )
            if not batch:
                break
            candidates += len(batch)
            found = sides_of(rule, batch)
            if not isinstance(found, Sides):
                tally.count([found])
                break
            matched += len(found.samples)
            for draw in Draw:
                if not (stop and tally.failures):
                    tally.count(judged(found, draw, generator))
    if not tally.instances and (absent := hints.kernels - set(optional_kernels())):
        return Proof(rule, instances, absent=tuple(sorted(absent)))
    outcomes, failures = tally.outcomes, tally.failures
    proof = Proof(
        rule, instances, candidates, matched, outcomes["exact"], outcomes["within"], outcomes["refuted"],
        tally.flips, tally.elements,
        reasons=tuple(reason for reason, _ in Counter(each.reason for _, each in failures).most_common(5)),
        script=script(rule, *shrunk(rule, failures, seed)) if failures else "",
    )  # fmt: skip
    return replace(proof, seconds=time.perf_counter() - start)


@dataclass
class _Tally:
    """Instances by outcome; those that are refuted, too."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    failures: list[Judged] = field(default_factory=list[Judged])
    flips: int = 0
    elements: int = 0

    @property
    def instances(self) -> int:
        return sum(self.outcomes.values())

    def count(self, found: Iterable[Judged]) -> None:
        for case, verdict in found:
            self.outcomes[verdict.outcome] += 1
            self.elements += verdict.elements
            self.flips += verdict.flips if verdict.outcome == "within" else 0
            self.failures += [(case, verdict)] if verdict.outcome == "refuted" else []
