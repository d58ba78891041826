"""Timing that survives a shared machine: variants take turns in one process, and medians are compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

Call = Callable[[], object]

MINIMUM_SECONDS = 0.02
_WARMUP_CALLS = 2


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call of one variant, one sample per round, in round order."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def best(self) -> float:
        return min(self.samples)


def speedup(slow: Timing, fast: Timing) -> float:
    """How many times faster `fast` is: the median of the ratios within each round.

    Load that slows a whole round cancels out of its ratio, but not out of a ratio of medians.
    """
    return median(one / other for one, other in zip(slow.samples, fast.samples, strict=True))


def at_one_speed(timings: Sequence[Timing]) -> tuple[float, ...]:
    """Milliseconds of each, interleaved, by what is usual of the rounds' medians.

    Ratios within rounds again: it ranks many as `speedup` compares two.
    """
    rounds = [median(each) for each in zip(*(each.samples for each in timings), strict=True)]
    return tuple(at_usual_speed(each.samples, rounds) for each in timings)


def at_usual_speed(samples: Sequence[float], rounds: Sequence[float]) -> float:
    """The median sample, each told as if its round, which took as long as `rounds` says, had been the median one."""
    usual = median(rounds)
    return median(sample * usual / took for sample, took in zip(samples, rounds, strict=True))


class Turns:
    """Calls that are timed in turns, once a round; a sample repeats its call for at least `minimum` seconds.

    Each round has an order of its own, the same in every run, so that none always follows the same neighbour, which
    leaves the caches as it likes them and threads that may not be at rest yet.
    """

    def __init__(self, calls: Mapping[str, Call], minimum: float = MINIMUM_SECONDS) -> None:
        self._calls, self._minimum, self._order = calls, minimum, random.Random(0)
        for call in calls.values():
            for _ in range(_WARMUP_CALLS):
                call()

    def round(self, names: Iterable[str]) -> dict[str, float]:
        """Milliseconds per call of each of these."""
        shuffled = list(names)
        self._order.shuffle(shuffled)
        return {name: _sample(self._calls[name], self._minimum) for name in shuffled}


def interleave(variants: Mapping[str, Call], rounds: int, minimum: float = MINIMUM_SECONDS) -> dict[str, Timing]:
    """Time every variant once per round, `rounds` times, see `Turns`."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    turns = Turns(variants, minimum)
    samples = [turns.round(variants) for _ in range(rounds)]
    return {name: Timing(tuple(each[name] for each in samples)) for name in variants}


def _sample(call: Call, minimum: float) -> float:
    calls = 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < minimum or not calls:
        call()
        calls += 1
    return elapsed / calls * 1e3


@contextmanager
def threads(count: int) -> Generator[None]:
    """Run with `count` intra-op threads, then give the caller's number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
