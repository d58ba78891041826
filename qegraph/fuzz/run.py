"""Program after program, until the time or their number is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qegraph.progress import Tell

from .check import Finding, Settings, check
from .draft import Program
from .grow import grow
from .respell import Spelling
from .script import script
from .shrink import shrunk
from .state import Found, State

_SAVED_EVERY = 20.0
"""Seconds."""
_MANY = 20
_SPELLINGS: Mapping[int, Spelling] = {
    1: "decomposed", 3: "any batch", 5: "written out", 6: "decomposed", 8: "any batch",
}  # fmt: skip
"""By the last digit of the seed."""


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


def _settings(settings: Settings, seed: int) -> Settings:
    """Of each ten programs one has many forms, and five are spelled otherwise than they were drawn."""
    if seed % 10 == 0:
        return replace(settings, shaken=max(settings.shaken, _MANY))
    return replace(settings, spelling=_SPELLINGS.get(seed % 10, settings.spelling))


def _one(state: State, settings: Settings, tell: Tell) -> None:
    seed = state.next
    program = grow(seed)
    settings = _settings(settings, seed)
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
    return Found(seed, what.form, what.what, script(smaller, what, settings.rules, settings.spelling))
