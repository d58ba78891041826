"""E-graphs with words, facts and rules declared, lent to one program after another.

Declaring takes longer than most searches do; undoing what a search has done takes a tenth of it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from qegraph import facts
from qegraph.encode import declared
from qegraph.engine import Engine
from qegraph.lang.rule import Rule
from qegraph.saturate import declare

_KEPT = 2
"""Idle ones of a thread at most."""

_Key = tuple[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Lent:
    """rules  are held, so that no others get their ids."""

    key: _Key
    rules: Sequence[Rule]
    engine: Engine


class _Idle(threading.local):
    """Of one thread, by how long they have been idle, the longest first."""

    def __init__(self) -> None:
        self.lent: list[_Lent] = []

    def taken(self, key: _Key) -> _Lent | None:
        found = next((each for each in self.lent if each.key == key), None)
        self.lent = [each for each in self.lent if each is not found]
        return found


_idle = _Idle()


@contextmanager
def ready(rules: Sequence[Rule]) -> Generator[Engine]:
    """An e-graph with these rules and no values. What is done in it is undone at the end: keep nothing that asks it.

    Uses may be nested. Raises RuleError for a rule that egglog refuses.
    """
    key = (tuple(facts.statements()), tuple(map(id, rules)))
    lent = _idle.taken(key) or _Lent(key, tuple(rules), fresh(rules))
    with lent.engine.aside():
        yield lent.engine
    _idle.lent = [*_idle.lent, lent][-_KEPT:]  # without one in which an error arose


def fresh(rules: Sequence[Rule]) -> Engine:
    """One of the caller's own, to keep. Raises RuleError as `ready` does."""
    engine = declared()
    declare(engine, rules)
    return engine
