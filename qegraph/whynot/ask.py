"""`why_not`: the nearest rule at a node, and what kept it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import fx

from qegraph import native
from qegraph.capture import capture
from qegraph.errors import QegraphError, Unsupported
from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.load_rules import RuleItem, by_name, select, shipped
from qegraph.nearmiss import Tables
from qegraph.pricing import CostFunction, Source, Target, price
from qegraph.program import Program
from qegraph.saturate import Budget
from qegraph.search import Search, search
from qegraph.whynot.answer import Answers
from qegraph.whynot.candidates import places
from qegraph.whynot.usage import Usage
from qegraph.whynot.verdict import WhyNot


def why_not(
    gm: fx.GraphModule | torch.export.ExportedProgram,
    node: str,
    rule: str | Rule | None = None,
    example_inputs: Sequence[Any] | None = None,
    *,
    rules: Sequence[RuleItem] | None = None,
    cost: CostFunction | Source = "estimated",
    target: Target = "eager",
    budget: Budget | None = None,
    kernels: Kernels = "onednn",
) -> WhyNot:
    """Why `rule` doesn't apply at `node`: how much of it matched, the first guard that failed, and what would help.

    node  a name of the input graph. rule  a name, or a rule; by default the one that came nearest to making an int8
    kernel of the node or taking it into one. The others are as for `optimize`, whose search is repeated.

    `diagnose` asks a search that has been made. Raises QegraphError for a node that isn't there, RuleError for a rule
    that isn't, each with the nearest names, and what `optimize` raises for kernels.
    """
    native.require(kernels)
    chosen = select(rules)
    asked = _asked(rule, chosen) if rule is not None else None
    try:
        program = capture(gm, example_inputs)
    except Unsupported as reason:
        return WhyNot(node, verdict="unchanged", reason=str(reason))
    _value(program, node)  # before the search, which takes longer
    found = search(program, chosen, budget, kernels=kernels)
    costs, _ = price(cost, found, target)
    return diagnose(found, costs, node, asked)


def diagnose(found: Search, costs: Sequence[float], node: str, rule: Rule | None = None) -> WhyNot:
    """`why_not` of a search that has been made, under these costs (µs, one per e-node)."""
    eclass = found.freezer.value_class[_value(found.program, node)]
    tables: Tables = found.tables
    usage = Usage(found, costs, found.select(costs))
    known = {each.name: each for each in (*found.rules, *shipped(), *((rule,) if rule else ()))}
    answers = Answers(tables, usage, tuple(known.values()))
    rules = (rule,) if rule is not None else tuple(known.values())
    return answers.best(node, places(tables, eclass, rules, anyway=rule is not None), named=rule is not None)


def _asked(rule: str | Rule, rules: Sequence[Rule]) -> Rule:
    if isinstance(rule, Rule):
        return rule
    return {each.name: each for each in rules}.get(rule) or by_name(rule)


def _value(program: Program, node: str) -> int:
    """The index of the value a source node stands for."""
    if node in program.source_nodes:
        return program.source_nodes[node]
    near = get_close_matches(node, program.source_nodes, n=3, cutoff=0.3)
    hint = f"; the nearest names are {', '.join(near)}" if near else ""
    raise QegraphError(f"the graph computes no value named {node}{hint}. Names are those of `gm.graph.nodes`")
