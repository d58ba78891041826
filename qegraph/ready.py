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
from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.saturate import declare

_KEPT = 2
"""Idle ones at most."""

_Key = tuple[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Lent:
    """rules  are held, so that no others get their ids."""

    key: _Key
    rules: Sequence[Rule]
    engine: Engine


class _Idle:
    """Of the main thread, by how long they have been idle, the longest first. E-graphs can't be used, or even let go,
    by another thread than the one that made them, and other threads end without notice: they get none that stays.
    """

    def __init__(self) -> None:
        self._lent: list[_Lent] = []

    def taken(self, key: _Key) -> _Lent | None:
        found = next((each for each in self._lent if each.key == key), None) if _is_main() else None
        if found is not None:
            self._lent.remove(found)
        return found

    def keep(self, lent: _Lent) -> None:
        if _is_main():
            self._lent = [*self._lent, lent][-_KEPT:]


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


_idle = _Idle()


@contextmanager
def ready(rules: Sequence[Rule], kernels: Kernels = "onednn") -> Generator[Engine]:
    """An e-graph with these rules and no values, where these kernels can be called.

    What is done in it is undone at the end: keep nothing that asks it.

    Uses may be nested. Raises RuleError for a rule that egglog refuses.
    """
    key = (tuple(facts.statements(kernels)), tuple(map(id, rules)))
    lent = _idle.taken(key) or _Lent(key, tuple(rules), fresh(rules, kernels))
    with lent.engine.aside():
        yield lent.engine
    _idle.keep(lent)  # without one in which an error arose


def fresh(rules: Sequence[Rule], kernels: Kernels = "onednn") -> Engine:
    """One of the caller's own, to keep. Raises RuleError as `ready` does."""
    engine = declared(kernels)
    declare(engine, rules)
    return engine
