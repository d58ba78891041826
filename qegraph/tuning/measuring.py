"""`cost="measured"`: extraction and measurement in turns, until what is chosen has been measured.

A kernel that was never timed costs a share of its estimate: it is chosen, and so timed, wherever that could make it the
better choice, and nowhere else. The loop ends because every turn times what it chose.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import fmean
from time import monotonic

import torch
from torch import fx

from qegraph.cost import rounded
from qegraph.extract import Selection
from qegraph.inputs import Inputs, inputs_of
from qegraph.progress import Tell, progress
from qegraph.search import Search
from qegraph.timing import Call

from .profile import profile
from .race import race
from .signature import signature
from .store import Store

OPTIMISM = 0.6
"""Share of its estimate that a kernel never timed is given: estimates are seldom further off."""
RUNS = 15
"""Of the whole graph in each turn; the median counts."""
TURNS = 12


@dataclass
class Tuning:
    """Where measurements come from and go to.

    store    kept between processes. seconds  after which no further turn begins.
    timed    kernels timed; `winner`, the form that won the race.
    """

    store: Store
    seconds: float = 60.0
    timed: int = field(default=0, init=False)
    winner: str = field(default="", init=False)


def measured(of: Search, estimates: Sequence[float], tuning: Tuning) -> list[float]:
    """Costs (µs) of all e-nodes that choose the fastest form found: measured for every kernel that matters.

    At the end the forms that measured costs, estimates and blends of both choose are run against each other; if no
    other is clearly faster than the estimates' choice, the estimates are the result.
    Raises what the graph raises when it is run on inputs like those it was captured with.
    """
    keys = keys_of(of, estimates)
    inputs = inputs_of(of.program)
    with progress("timing kernels", TURNS, lines=False) as tell:
        times = _timed(of, keys, estimates, inputs, tuning, tell)
        candidates = _candidates(mixed(keys, times, estimates, 1.0), estimates)
        name = _digest(of, keys, estimates)
        tuning.winner = tuning.store.read().winners.get(name, "")
        if tuning.winner not in candidates:
            tell.done(TURNS)
            tell("racing")
            tuning.winner = race(ESTIMATED, _calls(of, candidates, inputs))
            tuning.store.update(winners={name: tuning.winner})
    return candidates[tuning.winner]


def _timed(
    of: Search, keys: Sequence[str], estimates: Sequence[float], inputs: Inputs, tuning: Tuning, tell: Tell
) -> Mapping[str, float]:
    """Signature -> µs of what any choice within the optimism could take."""
    times = dict(tuning.store.read().times)
    begin = monotonic()
    for turn in range(TURNS):
        selection = of.select(mixed(keys, times, estimates, OPTIMISM))
        new = untimed(selection, keys, times)
        if not new or monotonic() - begin > tuning.seconds:
            break
        tell.done(turn)
        tell(f"{len(new)} new")
        found = times_of(of.emit(selection), selection, keys, inputs)
        fresh = {key: found[key] for key in new}
        times.update(fresh)
        tuning.timed += len(fresh)
        tuning.store.update(times=fresh)
    return times


def untimed(selection: Selection, keys: Sequence[str], times: Mapping[str, float]) -> set[str]:
    """Signatures of chosen e-nodes that were never timed."""
    return {keys[k] for k in selection.choice.values()} - set(times) - {""}


ESTIMATED = "estimated"
BLENDS = (0.25, 0.5, 0.75, 1.0)
"""Weights of the measured cost in a geometric mean with the estimate: both are noisy, each in its own way."""
SHAKEN = 3
SPREAD = 0.1


def _candidates(known: Sequence[float], estimates: Sequence[float]) -> dict[str, list[float]]:
    """Name -> costs that choose a form: the estimates, blends with what was measured, and neighbours of these."""
    made = {ESTIMATED: list(estimates)}
    pairs = list(zip(known, estimates, strict=True))
    for weight in BLENDS:
        made[f"{weight:.0%} measured"] = [k if k in (0.0, inf) else k**weight * e ** (1 - weight) for k, e in pairs]
    for seed in range(SHAKEN):
        made[f"shaken {seed}"] = shaken(estimates, random.Random(seed), SPREAD)
    return {name: [rounded(cost) for cost in costs] for name, costs in made.items()}


def shaken(costs: Sequence[float], generator: random.Random, sigma: float) -> list[float]:
    """Costs times exp(N(0, σ)); what costs nothing or can't be chosen stays so."""
    return [cost if cost in (0.0, inf) else cost * generator.lognormvariate(0.0, sigma) for cost in costs]


def _calls(of: Search, candidates: Mapping[str, Sequence[float]], inputs: Inputs) -> dict[str, Call]:
    """One call for each different form."""
    calls: dict[str, Call] = {}
    seen: set[tuple[int, ...]] = set()
    for name, costs in candidates.items():
        selection = of.select(costs)
        form = tuple(sorted(selection.choice.values()))
        if form not in seen:
            seen.add(form)
            calls[name] = call_of(of.emit(selection), inputs)
    return calls


def call_of(module: fx.GraphModule, inputs: Inputs) -> Call:
    def run() -> object:
        with torch.no_grad():
            return module(*inputs)

    return run


def _digest(of: Search, keys: Sequence[str], estimates: Sequence[float]) -> str:
    """Equal for the same e-graph under the same estimates."""
    nodes = [
        (key, estimate, node.children) for key, estimate, node in zip(keys, estimates, of.snapshot.nodes, strict=True)
    ]
    return hashlib.sha256(repr((nodes, of.snapshot.roots)).encode()).hexdigest()[:24]


def times_of(module: fx.GraphModule, selection: Selection, keys: Sequence[str], inputs: Inputs) -> Mapping[str, float]:
    """Signature -> µs, the mean over the chosen e-nodes that have it; 0 for what needs no call."""
    spent = profile(module, inputs, RUNS)
    each: defaultdict[str, list[float]] = defaultdict(list)
    for index in selection.choice.values():
        each[keys[index]].append(spent.get(index, 0.0))
    return {key: fmean(values) for key, values in each.items()}


def keys_of(of: Search, estimates: Sequence[float]) -> list[str]:
    """Per e-node its signature; "" for what costs nothing or can't be chosen."""
    return [
        signature(of.snapshot, node, of.program) if 0 < estimates[node.index] < inf else ""
        for node in of.snapshot.nodes
    ]


def mixed(keys: Sequence[str], times: Mapping[str, float], estimates: Sequence[float], optimism: float) -> list[float]:
    """The measured time where there is one, otherwise a share of the estimate."""
    return [
        times.get(key, estimate * optimism) if key else estimate for key, estimate in zip(keys, estimates, strict=True)
    ]
