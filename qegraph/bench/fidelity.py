"""`qegraph bench --cost-fidelity`: does a cheaper form run faster? Random forms of each model, ranked both ways."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

import numpy as np
import torch
from torch import fx

from qegraph import zoo
from qegraph.capture import capture
from qegraph.extract import Selection
from qegraph.load_rules import select
from qegraph.pricing import estimates
from qegraph.saturate import Budget
from qegraph.search import Clock, Search, search
from qegraph.tuning.measuring import keys_of, mixed, times_of
from qegraph.tuning.store import Store

from .run import Progress, Settings
from .table import Table
from .timing import interleave, threads

_SPREAD = (0.1, 2.0)
"""Costs are multiplied by exp(N(0, σ)), σ drawn anew for each form: from near the cheapest to anything."""
_RUNS = 15


@dataclass(frozen=True)
class Fidelity:
    """Per random form: ms of the whole model, measured; its cost (µs) as estimated, and from its kernels' times."""

    model: str
    measured: tuple[float, ...]
    estimated: tuple[float, ...]
    kernels: tuple[float, ...]

    def of_estimates(self) -> float:
        """Rank correlation (Spearman) of estimated and measured time."""
        return rank_correlation(self.estimated, self.measured)

    def of_kernels(self) -> float:
        """The same with measured costs."""
        return rank_correlation(self.kernels, self.measured)

    def spread(self) -> float:
        """The slowest form's time over the fastest's."""
        return max(self.measured) / min(self.measured)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, for values without ties: 1 - 6 Σ d² / (n (n² - 1)) over differences of rank d."""
    ranks = [np.argsort(np.argsort(each)) for each in (one, other)]
    n = len(one)
    return 1.0 - 6.0 * float(((ranks[0] - ranks[1]) ** 2).sum()) / (n * (n * n - 1))


def fidelity(names: Sequence[str], settings: Settings, forms: int, progress: Progress) -> Iterator[Fidelity]:
    """Model by model, `forms` random forms each. What is timed is kept, as by `cost="measured"`."""
    for name in names:
        progress(f"{name}: {forms} random forms")
        with threads(settings.threads), torch.no_grad():
            model, inputs = zoo.load(name, settings.size, settings.seed)
            quantized = zoo.quantize(model, inputs, seed=settings.seed)
            found = search(capture(quantized), select(None), Budget(), Clock())
            result = _measure(name, found, inputs, forms, settings)
        yield result


def _measure(name: str, found: Search, inputs: zoo.Inputs, forms: int, settings: Settings) -> Fidelity:
    store = Store.here(torch.get_num_threads())
    costs = estimates(found, store.read().rates)
    keys = keys_of(found, costs)
    generator = random.Random(settings.seed)
    selections = [found.select(_shaken(costs, generator)) for _ in range(forms)]
    modules = [found.emit(each) for each in selections]
    for module, selection in zip(modules, selections, strict=True):
        missing = {keys[k] for k in selection.choice.values()} - set(store.read().times) - {""}
        if missing:
            times = times_of(module, selection, keys, inputs, _RUNS)
            store.update(times={key: times[key] for key in missing})
    measured = mixed(keys, store.read().times, costs, 1.0)
    calls = {str(i): _call(module, inputs) for i, module in enumerate(modules)}
    timings = interleave(calls, settings.rounds)
    return Fidelity(
        name,
        tuple(median(timings[str(i)].samples) for i in range(forms)),
        tuple(_total(costs, each) for each in selections),
        tuple(_total(measured, each) for each in selections),
    )


def _call(module: fx.GraphModule, inputs: zoo.Inputs) -> Callable[[], object]:
    return lambda: module(*inputs)


def _shaken(costs: Sequence[float], generator: random.Random) -> list[float]:
    sigma = generator.uniform(*_SPREAD)
    return [cost if cost in (0.0, inf) else cost * generator.lognormvariate(0.0, sigma) for cost in costs]


def _total(costs: Sequence[float], selection: Selection) -> float:
    return sum(costs[k] for k in selection.choice.values())


def fidelity_table(results: Sequence[Fidelity]) -> Table:
    """One row a model."""
    rows = tuple(
        (
            each.model,
            str(len(each.measured)),
            f"{each.spread():.2f}",
            f"{each.of_estimates():.2f}",
            f"{each.of_kernels():.2f}",
        )
        for each in results
    )
    header = ("model", "forms", "slowest / fastest", "estimated costs", "measured costs")
    return Table("Rank correlation of cost and time, over random forms of each model", header, rows)
