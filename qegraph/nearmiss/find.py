"""How near a rule came at an e-class: its structure first, then its guards one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from qegraph.compile_rules import match_table
from qegraph.lang.guards import ROOT
from qegraph.lang.rule import Guard, Rule
from qegraph.lang.terms import Expr
from qegraph.nearmiss.facts import facts
from qegraph.nearmiss.partial import Partial, deepest, size
from qegraph.nearmiss.solve import Env, Unbound, Walk, match, solutions
from qegraph.nearmiss.tables import Tables
from qegraph.snapshot import ClassRef

BINDINGS = 64
"""Complete matches of the left side that are looked at; a pattern rarely has more than one at an e-class."""


@dataclass(frozen=True)
class Near:
    """The furthest a rule came at `eclass`.

    structure  of its left side; `mismatch` is None if all of it is there.
    held       how many guards hold, one after another; then `fact` is the first part of the next one that doesn't.
    env        what its variables stand for there.
    """

    rule: Rule
    eclass: int
    structure: Partial
    held: int = 0
    fact: Expr | None = None

    @property
    def env(self) -> Env:
        return self.structure.env

    @property
    def complete(self) -> bool:
        """The left side is there, whatever the guards say."""
        return self.structure.mismatch is None

    @property
    def holds(self) -> bool:
        return self.complete and self.fact is None

    @property
    def guard(self) -> Guard | None:
        """The first guard that fails."""
        return self.rule.guards[self.held] if self.fact is not None else None

    @property
    def score(self) -> float:
        """0 to 1: the share of the left side that fits; 1 to 2: all of it does, and that share of the guards."""
        if not self.complete:
            return max(0, self.structure.matched) / self.structure.size
        return 1 + self.held / max(1, len(self.rule.guards))


def nearest(tables: Tables, rule: Rule, eclass: int) -> Near:
    """The furthest `rule` came with `eclass` as the value it matches (of a rule of several equalities: as either)."""
    return max((_from(tables, rule, eclass, anchor) for anchor in range(len(rule.equalities))), key=_score)


def applied(tables: Tables, rule: Rule, eclass: int) -> bool:
    """The rule held here, and both its sides are in the e-graph."""
    roots = range(len(rule.equalities))
    return any(row[root] == ClassRef(eclass) for row in tables.rows(match_table(rule)) for root in roots)


def _score(near: Near) -> float:
    return near.score


def _from(tables: Tables, rule: Rule, eclass: int, anchor: int) -> Near:
    """With `eclass` as the value of one of the equalities."""
    lefts = [each.lhs for each in rule.equalities]
    walk = Walk()
    places = sum(map(size, lefts))
    best: Near | None = None
    others = [i for i in range(len(lefts)) if i != anchor]
    starts = match(tables, lefts[anchor], ClassRef(eclass), {_root(anchor): ClassRef(eclass)}, walk, swapping=True)
    envs = (found for env in starts for found in _elsewhere(tables, lefts, others, env, walk))
    for env in islice(envs, BINDINGS):
        held, bound, fact = _guards(tables, rule, env, walk)
        near = Near(rule, eclass, Partial(places, places, bound, None), held, fact)
        if best is None or near.score > best.score:
            best = near
        if best.holds:
            break
    return best or Near(rule, eclass, deepest(tables, lefts[anchor], eclass, Walk()))


def _root(number: int) -> str:
    return ROOT if number == 0 else f"{ROOT}-{number}"


def _elsewhere(tables: Tables, lefts: Sequence[Expr], others: Sequence[int], env: Env, walk: Walk) -> Iterator[Env]:
    """Matches of the other equalities, wherever they stand."""
    if not others:
        yield env
        return
    number, *rest = others
    for root in tables.roots(lefts[number].head):
        for found in match(tables, lefts[number], root, {**env, _root(number): root}, walk, swapping=True):
            yield from _elsewhere(tables, lefts, rest, found, walk)


def _guards(tables: Tables, rule: Rule, env: Env, walk: Walk) -> tuple[int, Env, Expr | None]:
    """Guards that hold, the bindings then, and the first fact that doesn't; facts wait for what others bind."""
    pending = deque((number, fact) for number, guard in enumerate(rule.guards) for fact in facts(guard))
    envs = [env]
    waited = 0
    while pending:
        number, fact = pending.popleft()
        try:
            found = list(islice((each for env in envs for each in solutions(tables, fact, env, walk)), BINDINGS))
        except Unbound:
            waited += 1
            if waited <= len(pending):
                pending.append((number, fact))
                continue
            found = []
        if not found:
            return number, envs[0], fact
        envs, waited = found, 0
    return len(rule.guards), envs[0], None
