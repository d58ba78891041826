"""Program after program, until the time or their number is up."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from qegraph.progress import Tell

from .check import Finding, Settings, check
from .draft import Program
from .grow import grow
from .script import script
from .shrink import shrunk
from .state import Found, State

_SAVED_EVERY = 20.0
"""Seconds."""


def run(
    state: State,
    tell: Tell,
    programs: int | None = None,
    seconds: float | None = None,
    settings: Settings | None = None,
    path: Path | None = None,
) -> None:
    """Go on from `state.next`, changing `state` and keeping it at `path`: until so many programs have been run, or
    seconds have passed, whichever is first.
    """
    settings = settings or Settings()
    begin, before, done = time.perf_counter(), state.seconds, 0
    saved = begin

    def is_over() -> bool:
        late = seconds is not None and time.perf_counter() - begin >= seconds
        return late or (programs is not None and done >= programs)

    while not is_over():
        _one(state, settings, tell)
        done += 1
        now = time.perf_counter()
        state.seconds = before + now - begin
        tell.done(done)
        if path is not None and now - saved > _SAVED_EVERY:
            saved = now
            state.save(path)
    if path is not None:
        state.save(path)


def _one(state: State, settings: Settings, tell: Tell) -> None:
    seed = state.next
    program = grow(seed)
    outcome = check(program, settings, seed)
    state.next += 1
    state.programs += 1
    state.decided += outcome.decided
    state.forms += outcome.forms
    state.kinds.update(program.kinds)
    state.rules.update(Counter(outcome.fired.keys()))
    if outcome.undecided:
        state.undecided[str(seed)] = outcome.undecided
    if outcome.finding is not None:
        tell(f"seed {seed}: {outcome.finding.form}: {outcome.finding.what[:200]}")
        state.findings.append(_found(seed, program, outcome.finding, settings))


def _found(seed: int, program: Program, finding: Finding, settings: Settings) -> Found:
    smaller, what = shrunk(program, finding, settings)
    return Found(seed, what.form, what.what, script(smaller, what, settings.rules))
