"""Which rule makes values of two dtypes or shapes one, and who made the values: the search again, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence

from qegraph import compile_rules, facts
from qegraph.alarms.who import Who
from qegraph.encode import Encoder, declared, encode
from qegraph.engine import Engine
from qegraph.errors import ConflictError
from qegraph.freeze import Freezer
from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.program import Program
from qegraph.snapshot import Snapshot


def blame(
    program: Program, rules: Sequence[Rule], found: ConflictError, rounds: int, kernels: Kernels
) -> ConflictError:
    """The conflict again, naming rules and nodes. rounds: after so many the search would have ended."""
    engine = declared(kernels)
    for rule in rules:
        _declare(engine, rule)
    encoder = encode(program, engine)
    engine.step(facts.RULESET, saturate=True)
    for _ in range(rounds):
        changed = False
        for rule in rules:
            if _conflicts(engine, rule):
                return ConflictError(_told(engine, encoder, rules, rule, found), found.fact)
            changed |= engine.step(_applied(rule))
            engine.step(facts.RULESET, saturate=True)
        if not changed:
            break
    return found


def _applied(rule: Rule) -> str:
    return f"apply-{rule.name}"


def _stated(rule: Rule) -> str:
    """The ruleset, and the relation of pairs, of what the rule would call equal."""
    return f"state-{rule.name}"


def _declare(engine: Engine, rule: Rule) -> None:
    where = f"of rule {rule.name} at {rule.where}"
    engine.run(f"(ruleset {_applied(rule)})")
    for statement in compile_rules.statements(rule, _applied(rule)):
        engine.run(statement, where)
    engine.run(f"(ruleset {_stated(rule)})")
    engine.run(f"(relation pair-{_stated(rule)} (T T))")
    for statement in compile_rules.pairs(rule, _stated(rule), f"pair-{_stated(rule)}"):
        engine.run(statement, where)


def _conflicts(engine: Engine, rule: Rule) -> bool:
    """The e-graph is as before afterwards."""
    with engine.aside():
        try:
            engine.step(_applied(rule))
            engine.step(facts.RULESET, saturate=True)
        except ConflictError:
            return True
    return False


def _told(engine: Engine, encoder: Encoder, rules: Sequence[Rule], rule: Rule, found: ConflictError) -> str:
    """Both sides as they are before the rule says that they are equal."""
    engine.step(_stated(rule))
    engine.step(facts.RULESET, saturate=True)
    freezer = Freezer(engine, encoder.program)
    snapshot = freezer.snapshot(encoder.read)
    who = Who(encoder.program, rules, snapshot, freezer.evidence(rules))
    for left, right in freezer.pairs(f"pair-{_stated(rule)}"):
        facts_of = [_fact(snapshot, each, found.fact) for each in (left, right)]
        if None not in facts_of and facts_of[0] != facts_of[1]:
            return (
                f"{who.rule(rule.name)} says that {who.eclass(left)} equals {who.eclass(right)}, but {found.fact} is "
                f"{facts_of[0]} of one and {facts_of[1]} of the other; one of these rules is wrong: "
                "`qegraph rules check NAME` looks for an instance"
            )
    return f"{found}; it follows from what {who.rule(rule.name)} says, with the rules before it"


def _fact(snapshot: Snapshot, eclass: int, name: str) -> object:
    """None where it isn't known, or isn't a fact that snapshots have."""
    known = {"dtype": snapshot.dtype, "shape": snapshot.shape}.get(name, {})
    return known.get(eclass)
