"""Program after program, until the time or their number is up."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count
from pathlib import Path

from qegraph.progress import Tell

from .attempt import Attempt, attempts
from .check import Settings
from .state import State

_SAVED_EVERY = 20.0
"""Seconds."""


def run(
    state: State,
    tell: Tell,
    programs: int | None = None,
    seconds: float | None = None,
    settings: Settings | None = None,
    path: Path | None = None,
    processes: int = 0,
) -> None:
    """Go on from `state.next`, changing `state` and keeping it at `path`: until so many programs have been run, or
    seconds have passed, whichever is first. processes: see `attempts`.
    """
    begin, before = time.perf_counter(), state.seconds
    saved = begin
    seeds = count(state.next) if programs is None else range(state.next, state.next + programs)
    results = attempts(seeds, settings or Settings(), processes)
    try:
        for done, each in enumerate(results, start=1):
            _record(state, each, tell)
            now = time.perf_counter()
            state.seconds = before + now - begin
            tell.done(done)
            if path is not None and now - saved > _SAVED_EVERY:
                saved = now
                state.save(path)
            if seconds is not None and now - begin >= seconds:
                break
    finally:
        results.close()
        if path is not None:
            state.save(path)


def _record(state: State, attempt: Attempt, tell: Tell) -> None:
    outcome = attempt.outcome
    state.next = attempt.seed + 1
    state.programs += 1
    state.decided += outcome.decided
    state.forms += outcome.forms
    state.kinds.update(attempt.kinds)
    state.rules.update(Counter(outcome.fired.keys()))
    if outcome.undecided:
        state.undecided[str(attempt.seed)] = outcome.undecided
    if (found := attempt.found) is not None:
        tell(f"seed {found.seed}: {found.form}: {found.what[:200]}")
        state.findings.append(found)
