"""`cost="measured"`: extraction and measurement in turns, until what is chosen has been measured; then a race.

A kernel that was never timed costs a share of its estimate: it is chosen, and so timed, wherever that could make it the
better choice, and nowhere else. The loop ends because every turn times what it chose. These times suggest forms, and
don't decide: the cheapest of many noisy ones is most of all the luckiest.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, inf
from statistics import fmean
from time import monotonic

import torch
from torch import fx

from qegraph.cost import Rates
from qegraph.extract import Selection
from qegraph.inputs import Inputs, inputs_of
from qegraph.progress import Tell, progress
from qegraph.search import Search
from qegraph.timing import Call

from .profile import profile
from .race import race
from .signature import signature
from .store import Store
from .ways import ESTIMATED, Ways, beside

OPTIMISM = 0.6
"""Share of its estimate that a kernel never timed is given: estimates are seldom further off."""
RUNS = 15
"""Of the whole graph in each turn; the median counts."""
TURNS = 12
_ENOUGH = 0.2
"""Share of a run that kernels timed before must take to tell how fast the machine is now."""


@dataclass
class Tuning:
    """Where measurements come from and go to.

    store    kept between processes.
    seconds  after which no further kernels are timed; and separately, no further race begins.
    timed    kernels timed; `winner`, the way to price (see `ways`) whose form won the races.
    """

    store: Store
    seconds: float = 60.0
    timed: int = field(default=0, init=False)
    winner: str = field(default="", init=False)


def measured(of: Search, rates: Rates, estimate: Callable[[Rates], Sequence[float]], tuning: Tuning) -> list[float]:
    """Costs (µs) of all e-nodes that choose the fastest form found: measured for every kernel that matters.

    Begins with what the estimates at these rates choose; the forms that ways beside these (see `ways`) choose are run
    against it, then those beside the winner, until none is surely faster or time is up.
    Raises what the graph raises when it is run on inputs like those it was captured with.
    """
    estimates = estimate(rates)
    keys = keys_of(of, estimates)
    inputs = inputs_of(of.program)
    with progress("timing kernels", TURNS, lines=False) as tell:
        times = _timed(of, keys, estimates, inputs, tuning, tell)
        tell.done(TURNS)
        ways = Ways(rates, estimate, [times.get(key) if key else None for key in keys])
        name = _digest(of, keys, estimates)
        tuning.winner = tuning.store.read().winners.get(name, "")
        if not ways.knows(tuning.winner):
            tuning.winner = _descend(_Forms(of, ways, inputs), tuning.seconds, tell)
            tuning.store.update(winners={name: tuning.winner})
    return ways.costs(tuning.winner)


def _descend(forms: _Forms, seconds: float, tell: Tell) -> str:
    """The name of the way that chooses the fastest form: from the estimates on, from each winner to those beside it."""
    best, call = ESTIMATED, next(iter(forms.new([ESTIMATED]).values()))
    end = monotonic() + seconds
    while monotonic() < end:
        calls = {best: call, **forms.new(beside(best))}
        tell(f"racing {len(calls)} forms")
        winner = race(best, calls, seconds / 2)
        if winner == best:
            break
        best, call = winner, calls[winner]
    return best


@dataclass
class _Forms:
    """The forms that ways choose, each made once."""

    of: Search
    ways: Ways
    inputs: Inputs
    seen: set[tuple[float, ...] | tuple[int, ...]] = field(default_factory=set, init=False)

    def new(self, names: Iterable[str]) -> dict[str, Call]:
        """A call of each form that no way before had chosen, by the name of the first that does."""
        calls: dict[str, Call] = {}
        for name in names:
            costs = self.ways.costs(name)
            if self._is_new(tuple(costs)):
                selection = self.of.select(costs)
                if self._is_new(tuple(sorted(selection.choice.values()))):
                    calls[name] = call_of(self.of.emit(selection), self.inputs)
        return calls

    def _is_new(self, key: tuple[float, ...] | tuple[int, ...]) -> bool:
        before = len(self.seen)
        self.seen.add(key)
        return len(self.seen) > before


def _timed(
    of: Search, keys: Sequence[str], estimates: Sequence[float], inputs: Inputs, tuning: Tuning, tell: Tell
) -> Mapping[str, float]:
    """Signature -> µs of what any choice within the optimism could take."""
    times = dict(tuning.store.read().times)
    end = monotonic() + tuning.seconds
    for turn in range(TURNS):
        selection = of.select(mixed(keys, times, estimates, OPTIMISM))
        new = untimed(selection, keys, times)
        if not new or monotonic() > end:
            break
        tell.done(turn)
        tell(f"{len(new)} new")
        found = times_of(of.emit(selection), selection, keys, inputs, times)
        fresh = {key: found[key] for key in new}
        times.update(fresh)
        tuning.timed += len(fresh)
        tuning.store.update(times=fresh)
    return times


def untimed(selection: Selection, keys: Sequence[str], times: Mapping[str, float]) -> set[str]:
    """Signatures of chosen e-nodes that were never timed."""
    return {keys[k] for k in selection.choice.values()} - set(times) - {""}


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


def times_of(
    module: fx.GraphModule, selection: Selection, keys: Sequence[str], inputs: Inputs, known: Mapping[str, float]
) -> Mapping[str, float]:
    """Signature -> µs, the mean over the chosen e-nodes that have it; 0 for what needs no call.

    At the speed the machine had when `known` was timed: those kernels of it that are in this form too tell.
    """
    spent = profile(module, inputs, RUNS)
    each: defaultdict[str, list[float]] = defaultdict(list)
    for index in selection.choice.values():
        each[keys[index]].append(spent.get(index, 0.0))
    shared = [key for key in each if key in known]
    then, now = fsum(known[key] * len(each[key]) for key in shared), fsum(fsum(each[key]) for key in shared)
    speed = then / now if then and now > _ENOUGH * fsum(spent.values()) else 1.0
    return {key: fmean(values) * speed for key, values in each.items()}


def keys_of(of: Search, estimates: Sequence[float]) -> list[str]:
    """Per e-node its signature; "" for what costs nothing or can't be chosen."""
    by = "" if of.kernels == "onednn" else f"{of.kernels} "
    return [
        by + signature(of.snapshot, node, of.program) if 0 < estimates[node.index] < inf else ""
        for node in of.snapshot.nodes
    ]


def mixed(keys: Sequence[str], times: Mapping[str, float], estimates: Sequence[float], optimism: float) -> list[float]:
    """The measured time where there is one, otherwise a share of the estimate."""
    return [
        times.get(key, estimate * optimism) if key else estimate for key, estimate in zip(keys, estimates, strict=True)
    ]
