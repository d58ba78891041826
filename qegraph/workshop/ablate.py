"""`qegraph rules ablate`: one model with and without one rule: costs, sizes, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import GraphModule

from qegraph.bench.table import Table
from qegraph.extract import Selection
from qegraph.lang.rule import Rule
from qegraph.pricing import price
from qegraph.search import Search, search
from qegraph.timing import Timing, interleave, speedup
from qegraph.tuning.measuring import call_of
from qegraph.workshop.firing import Firing, firings
from qegraph.workshop.subjects import Subject


@dataclass(frozen=True)
class Form:
    """The best graph under one set of rules.

    cost     µs, estimated. calls: nodes of the emitted graph that compute something.
    enodes   of the saturated e-graph; so eclasses, rounds, and the limit that was met (empty: a fixpoint).
    timing   of the emitted graph, milliseconds, the two forms in turns.
    """

    cost: float
    calls: int
    enodes: int
    eclasses: int
    rounds: int
    limit: str
    timing: Timing


@dataclass(frozen=True)
class Ablation:
    """`speedup` is how many times faster the graph with the rule is; `firing` what the rule did there."""

    model: str
    rule: str
    with_rule: Form
    without: Form
    firing: Firing
    speedup: float


def ablate(rule: Rule, others: Sequence[Rule], subject: Subject, rounds: int = 11) -> Ablation:
    """Optimize `subject` with `others` and `rule`, and with the others alone, and time the results, `rounds` times."""
    without = tuple(each for each in others if each.name != rule.name)
    whole = tuple(others) if rule in others else (*without, rule)
    one, other = (_best(subject, rules) for rules in (whole, without))
    with torch.no_grad():
        calls = {name: call_of(each.module, subject.inputs) for name, each in (("with", one), ("without", other))}
        timings = interleave(calls, rounds)
    return Ablation(
        subject.name,
        rule.name,
        one.form(timings["with"]),
        other.form(timings["without"]),
        firings(one.found, one.selection)[rule.name],
        speedup(timings["without"], timings["with"]),
    )


@dataclass(frozen=True)
class _Best:
    found: Search
    selection: Selection
    module: GraphModule

    def form(self, timing: Timing) -> Form:
        calls = sum(node.op in ("call_function", "call_module") for node in self.module.graph.nodes)
        snapshot, ended = self.found.snapshot, self.found.saturation
        sizes = len(snapshot.nodes), len(snapshot.classes)
        return Form(self.selection.cost, calls, *sizes, ended.rounds, ended.limit, timing)


def _best(subject: Subject, rules: Sequence[Rule]) -> _Best:
    found = search(subject.program(), rules)
    selection = found.select(price("estimated", found)[0])
    return _Best(found, selection, found.emit(selection))


def ablation_table(found: Ablation) -> Table:
    """A row for each figure, with the rule and without it."""
    pairs = [_cells(form) for form in (found.with_rule, found.without)]
    rows = [(name, one, other) for (name, one), (_, other) in zip(*pairs, strict=True)]
    rows.append((f"times faster, {found.firing} matches kept", f"{found.speedup:.3f}", "1"))
    return Table(f"{found.model}: {found.rule}", ("", "with", "without"), tuple(rows))


def _cells(form: Form) -> list[tuple[str, str]]:
    ended = f"{form.rounds} ({form.limit})" if form.limit else str(form.rounds)
    return [
        ("estimated µs", f"{form.cost:.1f}"),
        ("measured ms", f"{form.timing.median:.3f}"),
        ("calls in the graph", str(form.calls)),
        ("e-nodes", str(form.enodes)),
        ("e-classes", str(form.eclasses)),
        ("rounds", ended),
    ]
