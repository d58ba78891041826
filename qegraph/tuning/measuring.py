"""`cost="measured"`: extraction and measurement in turns, until what is chosen has been measured.

A kernel that was never timed costs a share of its estimate: it is chosen, and so timed, wherever that could make it the
better choice, and nowhere else. The loop ends because every turn times what it chose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from statistics import fmean
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import fx

from qegraph.extract import Selection
from qegraph.search import Search

from .profile import Inputs, inputs_of, profile
from .signature import signature
from .store import Store

OPTIMISM = 0.6
"""Share of its estimate that a kernel never timed is given: estimates are seldom further off."""
RUNS = 15
TURNS = 12


@dataclass
class Tuning:
    """Where measurements come from and go to.

    store    kept between processes. seconds  after which no further turn begins.
    runs     of the whole graph in each turn; the median counts.
    """

    store: Store
    seconds: float = 60.0
    runs: int = RUNS
    timed: int = field(default=0, init=False)


def measured(of: Search, estimates: Sequence[float], tuning: Tuning) -> list[float]:
    """Costs (µs) of all e-nodes: measured for every kernel that matters, estimated for the others.

    Raises what the graph raises when it is run on inputs like those it was captured with.
    """
    keys = keys_of(of, estimates)
    times = dict(tuning.store.read().times)
    inputs = inputs_of(of.program)
    begin = monotonic()
    with _progress() as tell:
        for turn in range(TURNS):
            selection = of.select(mixed(keys, times, estimates, OPTIMISM))
            new = {keys[k] for k in selection.choice.values()} - set(times) - {""}
            if not new or monotonic() - begin > tuning.seconds:
                break
            tell(turn, len(new))
            found = times_of(of.emit(selection), selection, keys, inputs, tuning.runs)
            fresh = {key: found[key] for key in new}
            times.update(fresh)
            tuning.timed += len(fresh)
            tuning.store.update(times=fresh)
    return mixed(keys, times, estimates, 1.0)


def times_of(
    module: fx.GraphModule, selection: Selection, keys: Sequence[str], inputs: Inputs, runs: int
) -> Mapping[str, float]:
    """Signature -> µs, the mean over the chosen e-nodes that have it; 0 for what needs no call."""
    spent = profile(module, inputs, runs)
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


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """A line on stderr while it lasts, where stderr is a terminal."""
    columns = (TextColumn("timing kernels"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=TURNS)
        yield lambda turn, count: progress.update(task, completed=turn, description=f"{count} new")
