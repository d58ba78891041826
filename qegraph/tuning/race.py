"""Whole forms against each other: what single kernels can't show, such as what one leaves in the caches of the next."""

from __future__ import annotations

from collections.abc import Mapping

from qegraph.timing import Call, interleave, speedup

ROUNDS = (7, 31)
"""Of the heats, which all run, and of the final, which the best do."""
FINALISTS = 3
MARGIN = 0.02
"""Share of the champion's time that a challenger must be faster by: less is noise."""


def race(champion: str, calls: Mapping[str, Call]) -> str:
    """The name of the fastest; the champion unless another is clearly faster."""
    heats = interleave(calls, ROUNDS[0], minimum=0.0)
    fastest = sorted((name for name in calls if name != champion), key=lambda name: heats[name].median)[:FINALISTS]
    final = interleave({name: calls[name] for name in (champion, *fastest)}, ROUNDS[1], minimum=0.0)
    ratios = {name: speedup(final[name], final[champion]) for name in fastest}
    best = min(ratios, key=lambda name: ratios[name], default=champion)
    return best if ratios.get(best, 1.0) < 1.0 - MARGIN else champion
