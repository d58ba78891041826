"""Loaded e-graph + rules -> saturated e-graph, within a budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from qegraph import compile_rules, facts
from qegraph.engine import Engine
from qegraph.lang.rule import Rule


@dataclass(frozen=True)
class Budget:
    """Limits of saturation and extraction; reaching one ends the search early, never the soundness.

    rounds   rounds of all rules.
    seconds  time for saturation, checked between rounds; and separately for extraction.
    """

    rounds: int = 64
    seconds: float = 60.0


@dataclass(frozen=True)
class Saturation:
    """How saturation ended: after how many rounds, how long (s), and which limit it met (empty: a fixpoint)."""

    rounds: int
    seconds: float
    limit: str = ""


def saturate(engine: Engine, rules: Sequence[Rule], budget: Budget) -> Saturation:
    """Run all rules to their fixpoint; the facts are brought up to date before every round."""
    engine.run(f"(ruleset {compile_rules.RULESET})")
    for rule in rules:
        for statement in compile_rules.statements(rule):
            engine.run(statement, f"of rule {rule.name} at {rule.where}")
    start = time.perf_counter()
    rounds = 0
    while True:
        engine.step(facts.RULESET, saturate=True)
        seconds = time.perf_counter() - start
        if rounds == budget.rounds or seconds > budget.seconds:
            limit = f"{rounds} rounds" if rounds == budget.rounds else f"{budget.seconds:g} s"
            return Saturation(rounds, seconds, limit)
        if not engine.step(compile_rules.RULESET):
            return Saturation(rounds, seconds)
        rounds += 1


def near_misses(engine: Engine, rules: Sequence[Rule]) -> None:
    """Fill the near-miss tables of `rules`."""
    engine.run(f"(ruleset {compile_rules.DIAGNOSIS})")
    for rule in rules:
        for statement in compile_rules.diagnosis(rule):
            engine.run(statement, f"of rule {rule.name} at {rule.where}")
    engine.step(compile_rules.DIAGNOSIS)
