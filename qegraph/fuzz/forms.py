"""Which of the equal forms of a program to look at: cost functions by name, the same in every process."""

from __future__ import annotations

import random
from math import inf

from qegraph.cost import COMPILED
from qegraph.pricing import CostFunction, default_cost, float_penalty
from qegraph.snapshot import ENode, Snapshot

_SPREAD = (0.1, 2.0, 6.0)
"""σ of the logarithm of a random factor: from near the cheapest to anything."""


def int8_first(snapshot: Snapshot, node: ENode) -> float:
    """The cost of compiled code, but a contraction stays float only if nothing else computes it, however small."""
    return default_cost(snapshot, node, COMPILED) + float_penalty(snapshot, node)


def dearest(snapshot: Snapshot, node: ENode) -> float:
    """What costs most is what is wanted; what can't be chosen still can't."""
    cost = default_cost(snapshot, node)
    return cost if cost == inf else 1e3 / (0.1 + cost)


def shaken(number: int) -> CostFunction:
    """Int8 first, with every e-node's cost times a random factor of its own."""

    def cost(snapshot: Snapshot, node: ENode) -> float:
        rng = random.Random(f"{number} {node.index}")
        return (int8_first(snapshot, node) + 0.01) * rng.lognormvariate(0.0, _SPREAD[number % len(_SPREAD)])

    return cost


def form(name: str) -> CostFunction:
    """By name: "int8", "dearest", or "shaken" and a number."""
    word, _, number = name.partition(" ")
    return {"int8": int8_first, "dearest": dearest}.get(word) or shaken(int(number))
