"""Loaded e-graph + rules -> saturated e-graph, within a budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from qegraph import compile_rules, facts
from qegraph.engine import Engine
from qegraph.lang.rule import Rule
from qegraph.lang.terms import CONSTRUCTORS
from qegraph.memory import resident


@dataclass(frozen=True)
class Budget:
    """Limits of saturation and extraction; reaching one ends the search early, never the soundness.

    All are looked at between rounds of all rules, so one round may go beyond them.

    rounds   rounds of all rules.
    seconds  time for saturation; separately for extraction; and with measured costs, for timing kernels, and for racing
             forms. If it ends a search, the result depends on the machine.
    nodes    e-nodes of values; None: no limit.
    memory   MiB by which this process grows while it saturates (see `memory.resident`); None: no limit.
    """

    rounds: int = 64
    seconds: float = 60.0
    nodes: int | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Saturation:
    """How saturation ended: after how many rounds, how long (s), and which limit it met (empty: a fixpoint)."""

    rounds: int
    seconds: float
    limit: str = ""


def declare(engine: Engine, rules: Sequence[Rule]) -> None:
    """Make the rules known to an e-graph that has none yet. Raises RuleError for one that egglog refuses."""
    engine.run(f"(ruleset {compile_rules.RULESET})")
    for rule in rules:
        for statement in compile_rules.statements(rule):
            engine.run(statement, f"of rule {rule.name} at {rule.where}")


def saturate(engine: Engine, budget: Budget) -> Saturation:
    """Run all declared rules to their fixpoint; the facts are brought up to date before every round."""
    start = time.perf_counter()
    held = resident()
    rounds = 0
    while True:
        engine.step(facts.RULESET, saturate=True)
        seconds = time.perf_counter() - start
        limit = _reached(engine, budget, rounds, seconds, held)
        if limit or not engine.step(compile_rules.RULESET):
            return Saturation(rounds, seconds, limit)
        rounds += 1


def _reached(engine: Engine, budget: Budget, rounds: int, seconds: float, held: float) -> str:
    """The limit that is reached, in words; empty if none is. held  MiB the process held at the start."""
    if rounds >= budget.rounds:
        return f"{rounds} rounds"
    if seconds > budget.seconds:
        return f"{budget.seconds:g} s"
    if budget.nodes is not None and size(engine) > budget.nodes:
        return f"{budget.nodes} e-nodes"
    if budget.memory is not None and resident() - held > budget.memory:
        return f"{budget.memory:g} MiB of growth"
    return ""


def size(engine: Engine) -> int:
    """E-nodes of values."""
    sizes = engine.sizes()
    return sum(sizes.get(name, 0) for name, each in CONSTRUCTORS.items() if each.sort == "T")
