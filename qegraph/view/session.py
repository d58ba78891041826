"""`explore`: one program, saturated once, from which forms are drawn, forced, compared and looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from math import inf
from typing import Any

import torch
from torch import fx

from qegraph import native
from qegraph.capture import capture
from qegraph.emit import META
from qegraph.errors import QegraphError
from qegraph.inputs import inputs_of
from qegraph.kernels import Kernels
from qegraph.load_rules import RuleItem, select
from qegraph.pricing import CostFunction, Source, Target, price
from qegraph.saturate import Budget
from qegraph.search import Search, search
from qegraph.timing import interleave
from qegraph.tuning.measuring import call_of
from qegraph.view.choices import Choices, choices
from qegraph.view.compare import Comparison, compare
from qegraph.view.forcing import forced
from qegraph.view.naming import find, term
from qegraph.view.outcome import Outcome
from qegraph.view.page import Page
from qegraph.view.picture import picture

ROUNDS = 15
"""Of measurement, by default, in which two outcomes take turns."""

Form = int | str
"""Which form of a value: its position in `Session.choices`, or the word of its e-node ("QGemm"), the cheapest such."""


class Session:
    """Made by `explore`. What is asked of it once is kept, so asking again costs nothing."""

    def __init__(self, found: Search, cost: CostFunction | Source, target: Target) -> None:
        self.search = found
        self.cost: CostFunction | Source = cost
        self.target: Target = target
        self._costs, self._prices = price(cost, found, target)
        self._narrowed: dict[frozenset[str], Search] = {frozenset(): found}
        self._count = 0

    def __repr__(self) -> str:
        snapshot = self.search.snapshot
        return (
            f"Session: {len(self.search.program.calls)} calls of the input graph, {len(snapshot.nodes)} e-nodes in "
            f"{len(snapshot.classes)} e-classes; best: {self.best.report.summary}, {self.best.cost:.0f} µs"
        )

    @cached_property
    def best(self) -> Outcome:
        """What `optimize` gives."""
        return self._outcome("best", self.search, self._costs, self._prices)

    def choices(self, node: str) -> Choices:
        """All forms of a value of the input graph, by node name ("conv2d_3") or module ("layer1.0.conv2").

        Raises QegraphError, with the nearest names, for a node that isn't there.
        """
        index = find(self.search.program, node)
        eclass = self.search.freezer.value_class[index]
        totals = [self._total({eclass: form}) for form in self.search.snapshot.classes[eclass]]
        return choices(self.search, self.best, index, totals)

    def extract(
        self,
        *,
        without: Collection[str] = (),
        force: Mapping[str, Form] | None = None,
        cost: CostFunction | Source | None = None,
        name: str = "",
    ) -> Outcome:
        """The cheapest form under other conditions.

        without  names of rules to do without. The program is saturated again, without them, the first time.
        force    node or module name -> the only form its value may have. What would compute past that value, from
                 another form of it, is out too; a kernel may still take the forced form in.
        cost     another cost, as `optimize` takes it.
        name     for comparisons; says what was asked for if it isn't given.

        Raises QegraphError for an unknown rule, node or form, or if no graph is left.
        """
        found = self._without(frozenset(without))
        costs, prices = (
            (self._costs, self._prices) if cost is None and found is self.search else self._price(found, cost)
        )
        if force:
            forms = dict(self._form(found, costs, node, form) for node, form in force.items())
            costs = forced(found, costs, forms)
        return self._outcome(name or _name(without, force, cost), found, costs, prices)

    def compare(
        self, first: Outcome, second: Outcome, *, inputs: Sequence[Any] | None = None, rounds: int = ROUNDS
    ) -> Comparison:
        """Graphs, costs and measured times; `inputs` of a call, by default random ones like those of the graph."""
        arguments = inputs_of(self.search.program) if inputs is None else inputs
        calls = {"first": call_of(first.module, arguments), "second": call_of(second.module, arguments)}
        timings = interleave(calls, rounds)
        return compare(first, second, (timings["first"], timings["second"]))

    def view(self, node: str, outcome: Outcome | None = None) -> Page:
        """An interactive picture of the e-graph around a value, with the path an outcome (the best) takes marked."""
        outcome = outcome or self.best
        of = outcome.search
        return picture(outcome, of.freezer.value_class[find(of.program, node)])

    def _price(self, of: Search, cost: CostFunction | Source | None) -> tuple[list[float], str]:
        return price(self.cost if cost is None else cost, of, self.target)

    def _without(self, names: frozenset[str]) -> Search:
        if names not in self._narrowed:
            known = {rule.name for rule in self.search.rules}
            for each in sorted(names - known):
                nearest = ", ".join(get_close_matches(each, sorted(known), n=3, cutoff=0.4)) or "none is like it"
                raise QegraphError(f"expected a rule of this session, got {each!r}; nearest: {nearest}")
            rules = [rule for rule in self.search.rules if rule.name not in names]
            self._narrowed[names] = search(self.search.program, rules, self.search.budget, kernels=self.search.kernels)
        return self._narrowed[names]

    def _form(self, of: Search, costs: Sequence[float], node: str, form: Form) -> tuple[int, int]:
        """e-class and e-node of a wish."""
        index = find(of.program, node)
        eclass = of.freezer.value_class[index]
        options = of.snapshot.classes[eclass]
        if isinstance(form, int):
            mine = self.search.snapshot.classes[self.search.freezer.value_class[index]]
            if not 0 <= form < len(mine):
                raise QegraphError(f"{node} has forms 0 to {len(mine) - 1}, got {form}; session.choices({node!r})")
            wanted = term(self.search, self.search.snapshot.nodes[mine[form]])
            fitting = [each for each in options if term(of, of.snapshot.nodes[each]) == wanted]
        else:
            wanted = form
            fitting = [each for each in options if of.snapshot.nodes[each].op == form]
        fitting = [each for each in fitting if costs[each] < inf]
        if not fitting:
            words = ", ".join(dict.fromkeys(of.snapshot.nodes[each].op for each in options if costs[each] < inf))
            raise QegraphError(f"{node} has no form {wanted} here; its forms: {words or 'none that can be emitted'}")
        return eclass, min(fitting, key=lambda each: (costs[each], each))

    def _total(self, forms: Mapping[int, int]) -> float:
        """µs of the cheapest graph with these forms; inf if there is none."""
        try:
            return self.search.select(forced(self.search, self._costs, forms)).cost
        except QegraphError:
            return inf

    def _outcome(self, name: str, of: Search, costs: Sequence[float], prices: str) -> Outcome:
        try:
            selection = of.select(costs)
        except QegraphError as error:
            raise QegraphError(f"{name}: no graph is left that computes all results this way; allow more") from error
        module = of.emit(selection)
        report = of.report(selection, module, costs, prices)
        module.meta[META] = report
        return Outcome(name, module, report, selection, of, costs)


def _name(without: Collection[str], force: Mapping[str, Form] | None, cost: object) -> str:
    parts = [f"without {', '.join(sorted(without))}"] if without else []
    parts += [f"{node} as {form}" for node, form in (force or {}).items()]
    parts += ["other costs" if callable(cost) else f"{cost} costs"] if cost is not None else []
    return "; ".join(parts) or "best"


def explore(
    gm: fx.GraphModule | torch.export.ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    *,
    rules: Sequence[RuleItem] | None = None,
    cost: CostFunction | Source = "estimated",
    budget: Budget | None = None,
    target: Target = "eager",
    kernels: Kernels = "onednn",
) -> Session:
    """A session on a q/dq graph; arguments as those of `optimize`. The graph is saturated here, once.

    Raises CaptureError or Unsupported for a graph that can't be read or improved soundly, and what `optimize` raises
    for rules and kernels.
    """
    native.require(kernels)
    return Session(search(capture(gm, example_inputs), select(rules), budget, kernels=kernels), cost, target)
