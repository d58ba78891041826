"""The measuring process of a profile: `python -m qegraph.bench.profile.worker JOB.json OUT.json`.

Its standard output is oneDNN's to write its log to; what it measured itself goes to a file. Plain calls, calls under
the profiler and calls with the log on take turns, so that load on the machine falls on all three.

The latency is taken by the clock of the calling thread, which stands still while the system has given its core to
somebody else: at one thread, that is the time on the wall of an idle machine. With more threads it would miss waiting
for them, so there it is the wall's.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch
from torch._inductor import config as inductor_config

from qegraph import zoo
from qegraph.bench.subject import Subject
from qegraph.bench.variants import BUILDERS
from qegraph.timing import threads

from .spans import Span, measure_overhead, record, spans
from .verbose import verbose

_TURN_SECONDS = 0.2
_CALLS = (3, 20)
"""The fewest and the most calls of a turn."""


@dataclass(frozen=True)
class Job:
    """What to profile, and how many times each kind of call takes a turn."""

    model: str
    size: zoo.Size
    seed: int
    threads: int
    variant: str
    rounds: int


@dataclass(frozen=True)
class Seen:
    """One call in microseconds, plain and as spans, and how many calls the log on standard output is of."""

    latency: float
    spans: list[Span]
    logged: int


def middle(values: Sequence[float]) -> float:
    """The mean of the middle half: unlike a median, not bound to the clock's resolution."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return mean(ordered[cut : len(ordered) - cut])


def work(job: Job) -> Seen:
    """Build and measure."""
    with threads(job.threads), torch.no_grad():
        model, inputs = zoo.load(job.model, job.size, job.seed)
        subject = Subject(model, zoo.quantize(model, inputs, seed=job.seed), inputs, job.seed)
        # generated kernels are then seen by the profiler; without one, that costs a few nanoseconds a kernel
        with inductor_config.patch({"cpp.enable_kernel_profile": True}):
            run = BUILDERS[job.variant](subject).run
        return _measure(lambda: run(*inputs), job.rounds)


def _measure(call: Callable[[], object], rounds: int) -> Seen:
    overhead = measure_overhead()
    calls = max(_CALLS[0], min(_CALLS[1], int(_TURN_SECONDS * 1e6 / min(_plain(call, 5)))))
    latencies: list[float] = []
    recorded: list[list[Span]] = []
    for _ in range(rounds):
        latencies += _plain(call, calls)
        recorded += [spans(root, overhead) for root in record(call, calls)]
        with verbose():
            for _ in range(calls):
                call()
    return Seen(middle(latencies), average(recorded), rounds * calls)


def _plain(call: Callable[[], object], calls: int) -> list[float]:
    """Microseconds of each call; one more goes before, to have its data in the caches again."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    call()
    times: list[float] = []
    for _ in range(calls):
        begin = clock()
        call()
        times.append((clock() - begin) * 1e6)
    return times


def average(recorded: Sequence[Sequence[Span]]) -> list[Span]:
    """Position by position. Raises ValueError if the calls didn't all do the same."""
    names = [span.name for span in recorded[0]]
    if any([span.name for span in each] != names for each in recorded):
        raise ValueError("the calls of this variant don't all run the same operators: there is no profile of one")
    return [Span(name, middle([each[at].microseconds for each in recorded])) for at, name in enumerate(names)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    asked, answer = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(asdict(work(Job(**json.loads(asked.read_text()))))))
