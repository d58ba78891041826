"""One seed of a run: its program, all that is asked of it, and in which processes."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread

from qegraph.timing import threads

from .check import Outcome, Settings, check
from .grow import grow
from .respell import Spelling
from .script import script
from .shrink import shrunk
from .state import Found

_MANY = 20
_SPELLINGS: Mapping[int, Spelling] = {
    1: "decomposed", 3: "any batch", 5: "written out", 6: "decomposed", 8: "any batch",
}  # fmt: skip
"""By the last digit of the seed."""
_AHEAD = 4
"""Programs handed out before their turn, for each process."""


@dataclass(frozen=True)
class Attempt:
    """What came of a seed. kinds: of op, in its program. outcome: without its finding, which is in `found`, shrunk."""

    seed: int
    kinds: tuple[str, ...]
    outcome: Outcome
    found: Found | None = None


def attempts(seeds: Iterable[int], settings: Settings, processes: int) -> Generator[Attempt]:
    """One for each seed, in order; by so many processes of their own, or in this one if that is 0.

    A program that takes its process down is a finding, whichever process it was: those that had begun run again,
    each by itself.
    """
    if not processes:
        yield from (attempt(seed, settings) for seed in seeds)
        return
    left, begun = iter(seeds), deque[int]()
    while True:
        pool = _pool(processes)
        try:
            yield from _pooled(pool, begun, left, settings, processes * _AHEAD)
            return
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        while begun:
            yield _alone(begun.popleft(), settings)


def _pooled(
    pool: ProcessPoolExecutor, begun: deque[int], left: Iterator[int], settings: Settings, ahead: int
) -> Iterator[Attempt]:
    """Raises BrokenProcessPool; then `begun` are the seeds without an attempt."""
    futures = deque[Future[Attempt]]()
    while True:
        while len(begun) < ahead and (seed := next(left, None)) is not None:
            begun.append(seed)
            futures.append(pool.submit(attempt, seed, settings))
        if not begun:
            return
        done = futures.popleft().result()
        begun.popleft()
        yield done


def _alone(seed: int, settings: Settings) -> Attempt:
    with _pool(1) as pool:
        try:
            return pool.submit(attempt, seed, settings).result()
        except BrokenProcessPool:
            again = "from qegraph.fuzz import Settings\nfrom qegraph.fuzz.attempt import attempt\n\n"
            found = Found(seed, "some form", "the process running it died", f"{again}attempt({seed}, {settings})\n")
            return Attempt(seed, grow(seed).kinds, Outcome(), found)


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, get_context("spawn"), _prepare)


def _prepare() -> None:
    """An interrupt is for the process that hands the programs out; its end is the end of this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def attempt(seed: int, settings: Settings) -> Attempt:
    """Check the program of this seed and shrink what is found. Of each ten programs one has many forms, and five are
    spelled otherwise than they were drawn.
    """
    if seed % 10 == 0:
        settings = replace(settings, shaken=max(settings.shaken, _MANY))
    else:
        settings = replace(settings, spelling=_SPELLINGS.get(seed % 10, settings.spelling))
    with threads(1):
        program = grow(seed)
        outcome = check(program, settings, seed)
        found = None
        if outcome.finding is not None:
            smaller, what = shrunk(program, outcome.finding, settings)
            found = Found(seed, what.form, what.what, script(smaller, what, settings.rules, settings.spelling))
    return Attempt(seed, program.kinds, replace(outcome, finding=None), found)
