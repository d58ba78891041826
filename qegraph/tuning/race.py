"""Whole forms against each other: what single kernels can't show, such as what one leaves in the caches of the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

Call = Callable[[], object]

ROUNDS = (7, 31)
"""Of the heats, which all run, and of the final, which the best do."""
FINALISTS = 3
MARGIN = 0.02
"""Share of the champion's time that a challenger must be faster by: less is noise."""


def race(champion: str, calls: Mapping[str, Call]) -> str:
    """The name of the fastest; the champion unless another is clearly faster."""
    heats = _interleaved(calls, ROUNDS[0])
    fastest = sorted((name for name in calls if name != champion), key=lambda name: median(heats[name]))[:FINALISTS]
    final = _interleaved({name: calls[name] for name in (champion, *fastest)}, ROUNDS[1])
    ratios = {
        name: median(mine / its for mine, its in zip(final[name], final[champion], strict=True)) for name in fastest
    }
    best = min(ratios, key=lambda name: ratios[name], default=champion)
    return best if ratios.get(best, 1.0) < 1.0 - MARGIN else champion


def _interleaved(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` times in turns; the one that goes first moves on."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for call in calls.values():
        call()
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            calls[name]()
            samples[name].append(time.perf_counter() - begin)
    return samples
