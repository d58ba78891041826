"""Samples -> one e-graph in which the rule has run once -> the graphs of both sides of those it has matched."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from qegraph import compile_rules, facts
from qegraph.cost import DEFAULTS
from qegraph.emit import Emitter
from qegraph.encode import declared
from qegraph.engine import Engine
from qegraph.errors import ConflictError
from qegraph.extract import extract
from qegraph.extract.selection import Selection, needed, total
from qegraph.freeze import Freezer
from qegraph.lang.rule import Rule
from qegraph.ops import WORDS
from qegraph.program import Program, Ref, Value
from qegraph.prove.evaluate import graph_of
from qegraph.prove.load import Loader
from qegraph.prove.sampler import Sample
from qegraph.snapshot import Snapshot

_NEW, _OLD, _NEVER = 1.0, 1e6, 1e12
"""Costs by which extraction takes what the rule has made; what no kernel computes by itself is a step on the way."""


@dataclass(frozen=True)
class Sides:
    """The matched samples of a batch. left computes, from all leaves, their left sides; right, their right sides."""

    samples: tuple[Sample, ...]
    left: fx.GraphModule
    right: Mapping[int, fx.GraphModule | Exception]
    """Sample -> a module that takes that sample's inputs, or why there is none."""


_thread = threading.local()
"""engine: one with nothing but the words and facts declared, for all batches of a thread."""


def sides(rule: Rule, samples: Sequence[Sample]) -> Sides:
    """Both sides of the samples that the rule matches. Raises ConflictError if those of one have different shapes."""
    engine = _engine()
    loader = Loader(samples)
    with engine.aside():
        old = _matched(rule, loader, engine)
        found = _Found(rule, samples, loader, Freezer(engine, loader.program))
        right = found.right_sides(old)
    return _both(samples, right)


def conflicting(rule: Rule, samples: Sequence[Sample]) -> Sample:
    """One of the samples whose sides have different dtypes or shapes, found by halving; some have."""
    while len(samples) > 1:
        half = len(samples) // 2
        samples = samples[:half] if _conflicts(rule, samples[:half]) else samples[half:]
    return samples[0]


def _conflicts(rule: Rule, samples: Sequence[Sample]) -> bool:
    engine = _engine()
    with engine.aside():
        try:
            _matched(rule, Loader(samples), engine)
        except ConflictError:
            return True
    return False


def _engine() -> Engine:
    if not hasattr(_thread, "engine"):
        _thread.engine = declared()
    return _thread.engine


def _matched(rule: Rule, loader: Loader, engine: Engine) -> set[tuple[str, Any]]:
    """Load the samples and apply the rule to them; gives the e-nodes from before."""
    loader.load(engine)
    engine.run(f"(ruleset {compile_rules.RULESET})")
    for statement in compile_rules.statements(rule):
        engine.run(statement, f"of rule {rule.name} at {rule.where}")
    engine.step(facts.RULESET, saturate=True)
    old = _rows(engine)
    engine.step(compile_rules.RULESET)
    engine.step(facts.RULESET, saturate=True)
    return old


def _rows(engine: Engine) -> set[tuple[str, Any]]:
    """The e-nodes there are."""
    return {(name, row[0]) for name, table in engine.tables().items() for row in table.rows}


def _both(samples: Sequence[Sample], right: Mapping[int, fx.GraphModule | Exception]) -> Sides:
    matched = tuple(samples[number] for number in right)
    leaves = {index: leaf.tensor for sample in matched for index, leaf in sample.leaves.items()}
    moves = {uid: move for sample in matched for uid, move in sample.moves.items()}
    left = graph_of([term for sample in matched for term in sample.terms], leaves, moves)
    return Sides(matched, left, dict(enumerate(right.values())))


@dataclass(frozen=True)
class _Found:
    """What the rule has matched and made."""

    rule: Rule
    samples: Sequence[Sample]
    loader: Loader
    freezer: Freezer

    def right_sides(self, old: set[tuple[str, Any]]) -> dict[int, fx.GraphModule | Exception]:
        """Sample -> its right side, of those the rule matches and for which there is something to run.

        old  the e-nodes from before the rule ran. One extraction serves all samples: what they share costs
              nothing, so that none chooses otherwise for another's sake.
        """
        freezer = self.freezer
        snapshot = freezer.snapshot()
        roots = {number: self._roots(number) for number in self._matched()}
        if not roots:
            return {}
        costs = self._costs(snapshot, old)
        every = replace(snapshot, roots=tuple(dict.fromkeys(each for own in roots.values() for each in own)))
        choice = extract(every, costs).choice
        evidence, made = freezer.evidence([self.rule]), self._made()
        unseen = tuple(replace(v, kind="call") if v.kind == "input" else v for v in self.loader.program.values)
        right: dict[int, fx.GraphModule | Exception] = {}
        for number, own in roots.items():
            view = replace(snapshot, roots=own)
            order = needed(view, choice)
            chosen = {eclass: choice[eclass] for eclass in order}
            cost = total(costs, chosen)
            if cost >= _NEVER or any(made[root] and chosen[root] not in made[root] for root in own):
                continue  # the left side again: the right one is a step on the way to what can be emitted
            selection = Selection(chosen, order, cost, cost, "elimination", 1)
            try:
                program = self._program(unseen, number)
                right[number] = Emitter(program, self.loader, freezer, view, selection, evidence).run()
            except Exception as error:  # whatever it is, this instance has no right side
                right[number] = error
        return right

    def _roots(self, number: int) -> tuple[int, ...]:
        return tuple(self.freezer.value_class[index] for index in self.loader.roots[number])

    def _matched(self) -> list[int]:
        rows = self.freezer.tables[compile_rules.match_table(self.rule)].rows
        count = len(self.rule.equalities)
        found = {tuple(self.freezer.numbers[each] for each in inputs[:count]) for inputs, _ in rows}
        return [number for number in range(len(self.samples)) if self._roots(number) in found]

    def _costs(self, snapshot: Snapshot, old: set[tuple[str, Any]]) -> list[float]:
        costs = [_NEW] * len(snapshot.nodes)
        for (name, inputs), index in self.freezer.index_of.items():
            if math.isinf(WORDS[name].cost(snapshot, snapshot.nodes[index], DEFAULTS)):
                costs[index] = _NEVER
            elif not snapshot.nodes[index].children:
                costs[index] = 0.0
            elif (name, inputs) in old:
                costs[index] = _OLD
        return costs

    def _made(self) -> Mapping[int, set[int]]:
        """Root -> the e-nodes that the right sides of its matches are."""
        made: defaultdict[int, set[int]] = defaultdict(set)
        for match in self.freezer.matches(self.rule):
            made[match.eclass].update(match.right[-1:])
        return made

    def _program(self, values: tuple[Value, ...], number: int) -> Program:
        """That of one sample: no value is an input but its own."""
        own = list(values)
        for index in self.samples[number].leaves:
            own[index] = self.loader.program.values[index]
        output = tuple(Ref(index) for index in self.loader.roots[number])
        return replace(self.loader.program, values=tuple(own), output=output)
