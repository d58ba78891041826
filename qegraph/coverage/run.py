"""Which cells are run through which routes, in how many processes."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, zip_longest

from qegraph.bench.run import Progress

from .cell import Cell
from .judge import Outcome
from .matrix import NAMES, cells
from .routes import OURS, ROUTES, Route
from .worker import Worker

SAMPLE = 80
"""Cells a slow route is run on by default."""


@dataclass(frozen=True)
class Settings:
    """`sample` is how many cells rivals are run on; without it slow ones are run on `SAMPLE`, others on all."""

    families: tuple[str, ...] = NAMES
    rivals: bool = True
    sample: int | None = None
    everything: bool = False
    jobs: int = 1
    seed: int = 0

    def routes(self) -> tuple[Route, ...]:
        return tuple(route for route in ROUTES.values() if self.rivals or route.name == OURS)

    def chosen(self, route: Route, every: Sequence[Cell]) -> list[Cell]:
        """The cells this route is run on."""
        if route.name == OURS or self.everything or (self.sample is None and not route.slow):
            return list(every)
        return spread(every, self.sample or SAMPLE, self.seed)


def spread(every: Sequence[Cell], count: int, seed: int) -> list[Cell]:
    """`count` cells drawn at random, from every family in turns; in the order of the matrix."""
    generator = random.Random(seed)
    families = [list(members) for _, members in groupby(every, key=lambda cell: cell.family)]
    for members in families:
        generator.shuffle(members)
    drawn = [cell for turn in zip_longest(*families) for cell in turn if cell is not None][:count]
    kept = {(cell.family, cell.name) for cell in drawn}
    return [cell for cell in every if (cell.family, cell.name) in kept]


def steps(settings: Settings) -> int:
    """How many lists of outcomes `coverage` gives."""
    return len(_tasks(settings))


def _tasks(settings: Settings) -> list[tuple[Route, list[Cell]]]:
    every = cells(settings.families)
    return [
        (route, list(members))
        for route in settings.routes()
        for _, members in groupby(settings.chosen(route, every), key=lambda cell: cell.family)
    ]


def coverage(settings: Settings, progress: Progress) -> Iterator[list[Outcome]]:
    """The outcomes of one family through one route after another."""
    tasks = _tasks(settings)
    for route in settings.routes():
        count = sum(len(members) for each, members in tasks if each.name == route.name)
        progress(f"{route.name}: {count} cells")
    with _Crew() as crew, ThreadPoolExecutor(settings.jobs) as pool:
        futures = [pool.submit(crew.judge, route.name, members) for route, members in tasks]
        try:
            for (route, members), future in zip(tasks, futures, strict=True):
                outcomes = future.result()
                progress(f"{route.name}: {members[0].family} done")
                yield outcomes
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Crew:
    """One worker for each thread, of the route that thread is busy with."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[Worker] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.stop()

    def judge(self, route: str, members: Sequence[Cell]) -> list[Outcome]:
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is None or worker.route != route:
            if worker is not None:
                worker.stop()
            worker = self._own.worker = Worker(route)
            self._all.append(worker)
        worker.refresh()
        return [worker.judge(cell) for cell in members]
