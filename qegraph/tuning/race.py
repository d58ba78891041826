"""Whole forms against each other: what single kernels can't show, such as what one leaves in the caches of the next."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import median

from qegraph.timing import Call, Turns

FINALISTS = 3
"""The heats leave so many: each halves the field, by ever more rounds."""
HEAT, STEP, MOST = 5, 16, 800
"""Rounds of the first heat; of the final, between two looks at who is still in it; of the final, at most."""
GAIN = 1.02
"""A challenger that isn't so much faster stays out: another process, with other layouts and places in memory, may well
turn less around.
"""
_DEVIATIONS = 2.6
"""Of a normal distribution, on either side: 99 %."""
FEWEST = 8
"""All on the same side of the median: 2 in 256."""


def race(champion: str, calls: Mapping[str, Call], seconds: float) -> str:
    """The name of the fastest, in about `seconds` once all are warm; the champion unless another one is surely faster.

    Surely: in a final of its own, the median ratio within a round is above `GAIN`, and its 99 % interval above 1.
    """
    turns = Turns(calls, minimum=0.0)
    begin = time.perf_counter()
    half = begin + seconds / 2
    names, rounds = [name for name in calls if name != champion], HEAT
    while len(names) > FINALISTS and time.perf_counter() < half:
        heat: list[dict[str, float]] = []
        while not heat or (len(heat) < rounds and time.perf_counter() < half):
            heat.append(turns.round([champion, *names]))
        names.sort(key=lambda name: median(each[name] / each[champion] for each in heat))
        names, rounds = names[: max(FINALISTS, len(names) // 2)], rounds + 2
    return _final(champion, names[:FINALISTS], turns, begin + seconds)


def _final(champion: str, names: Sequence[str], turns: Turns, end: float) -> str:
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for rounds in range(1, MOST + 1):
        if not names or time.perf_counter() > end:
            break
        times = turns.round([champion, *names])
        for name in names:
            ratios[name].append(times[champion] / times[name])
        if rounds % STEP == 0:
            bounds = {name: interval(ratios[name]) for name in names}
            best = max(low for low, _ in bounds.values())
            names = [name for name in names if bounds[name][1] > max(GAIN, best)]
            if best > GAIN and len(names) == 1:
                break
    gains = {name: median(ratios[name]) for name in names if interval(ratios[name])[0] > 1.0}
    fastest = max(gains, key=lambda name: gains[name], default=champion)
    return fastest if gains.get(fastest, 0.0) > GAIN else champion


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """99 % interval of the median, whatever the distribution: order statistics n/2 ± z √n / 2 (David and Nagaraja,
    Order Statistics, 2003, 7.1). Of fewer than `FEWEST` samples there is none: (0, ∞).
    """
    ordered, n = sorted(samples), len(samples)
    if n < FEWEST:
        return 0.0, math.inf
    outside = max(0, math.floor(n / 2 - _DEVIATIONS * math.sqrt(n) / 2))
    return ordered[outside], ordered[n - 1 - outside]
