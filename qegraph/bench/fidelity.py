"""`qegraph bench --cost-fidelity`: does a cheaper form run faster? Random forms of each model, ranked both ways."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch

from qegraph import zoo
from qegraph.capture import capture
from qegraph.extract.selection import total
from qegraph.pricing import estimates
from qegraph.search import Search, search
from qegraph.timing import Timing, at_one_speed, interleave, threads
from qegraph.tuning.measuring import call_of, keys_of, mixed, times_of, untimed
from qegraph.tuning.store import Store

from .run import Progress, Settings
from .table import Table

_SPREAD = (0.1, 2.0)
"""Costs are multiplied by exp(N(0, σ)), σ drawn anew for each form: from near the cheapest to anything."""


@dataclass(frozen=True)
class Fidelity:
    """Per random form: its times; its cost (µs) as estimated, and from its kernels' times."""

    model: str
    timings: tuple[Timing, ...]
    estimated: tuple[float, ...]
    kernels: tuple[float, ...]

    @property
    def measured(self) -> tuple[float, ...]:
        """Milliseconds of each form."""
        return at_one_speed(self.timings)

    def of_estimates(self) -> float:
        """Rank correlation (Spearman) of estimated and measured time."""
        return rank_correlation(self.estimated, self.measured)

    def of_kernels(self) -> float:
        """The same with measured costs."""
        return rank_correlation(self.kernels, self.measured)

    def of_times(self) -> float:
        """The same of the times of every second round and those of the others: costs can't do much better than that."""
        halves = ([Timing(each.samples[half::2]) for each in self.timings] for half in (0, 1))
        return rank_correlation(*map(at_one_speed, halves))

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
            found = search(capture(quantized))
            result = _measure(name, found, inputs, forms, settings)
        yield result


def _measure(name: str, found: Search, inputs: zoo.Inputs, forms: int, settings: Settings) -> Fidelity:
    store = Store.here(torch.get_num_threads())
    kept = store.read()
    costs, times = estimates(found, kept.rates), dict(kept.times)
    keys = keys_of(found, costs)
    generator = random.Random(settings.seed)
    selections = [found.select(shaken(costs, generator, generator.uniform(*_SPREAD))) for _ in range(forms)]
    modules = [found.emit(each) for each in selections]
    for module, selection in zip(modules, selections, strict=True):
        missing = untimed(selection, keys, times)
        if missing:
            found_times = times_of(module, selection, keys, inputs, times)
            times.update({key: found_times[key] for key in missing})
    store.update(times=times)
    measured = mixed(keys, times, costs, 1.0)
    calls = {str(i): call_of(module, inputs) for i, module in enumerate(modules)}
    timings = interleave(calls, settings.rounds)
    return Fidelity(
        name,
        tuple(timings[str(i)] for i in range(forms)),
        tuple(total(costs, each.choice) for each in selections),
        tuple(total(measured, each.choice) for each in selections),
    )


def shaken(costs: Sequence[float], generator: random.Random, sigma: float) -> list[float]:
    """Costs times exp(N(0, σ)); what costs nothing or can't be chosen stays so."""
    return [cost if cost in (0.0, inf) else cost * generator.lognormvariate(0.0, sigma) for cost in costs]


def fidelity_table(results: Sequence[Fidelity]) -> Table:
    """One row a model."""
    rows = tuple(
        (
            each.model,
            str(len(each.measured)),
            f"{each.spread():.2f}",
            f"{each.of_estimates():.2f}",
            f"{each.of_kernels():.2f}",
            f"{each.of_times():.2f}" if len(each.timings[0].samples) > 1 else "-",
        )
        for each in results
    )
    header = ("model", "forms", "slowest / fastest", "estimated costs", "measured costs", "time with itself")
    return Table("Rank correlation of cost and time, over random forms of each model", header, rows)
