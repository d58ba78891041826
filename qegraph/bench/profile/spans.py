"""What torch's profiler saw of one call, as a flat list of spans that don't overlap and leave nothing out.

The profiler itself takes time: nearly all of what an event costs lies outside its own interval, so in its parent's.
That is taken off: every span is shorter by a constant for each event inside it. The constant is measured apart, on
calls that do nothing else, so that nothing makes the parts fit the whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

ROOT = "qegraph.call"
PYTHON, ENTRY = "python", "entry"
"""Names of spans that no operator and no generated kernel accounts for: between calls, and around the whole."""
_GENERATED = re.compile(r"(graph_\w+_)?cpp_")
_SHIM = re.compile(r"aoti_torch_cpu_(\w+)")
"""An operator called from Inductor's C++ wrapper, as a C function."""
_COMPILED = "Torch-Compiled Region"
_WRAPPER = "## Call CompiledFxGraph"
_PROBE_CALLS = 2000
_PROBE_ROUNDS = 5


@dataclass(frozen=True)
class Event:
    """One interval of the profiler, in microseconds, with those inside it in order."""

    name: str
    start: float
    end: float
    children: tuple[Event, ...] = ()

    @property
    def inside(self) -> int:
        """How many events lie in this one."""
        return sum(1 + child.inside for child in self.children)


@dataclass(frozen=True)
class Overhead:
    """What the profiler adds, in microseconds: for each event, and to the marker around a call."""

    event: float
    marker: float


@dataclass(frozen=True)
class Span:
    """A stretch of one call: an operator, a generated kernel, or one of `PYTHON` and `ENTRY`."""

    name: str
    microseconds: float


def spans(root: Event, overhead: Overhead) -> list[Span]:
    """The spans of one call in order.

    `PYTHON` and `ENTRY` are a span for each gap: short ones, of which few are hit when the system takes the core away.
    """
    compiled = any(child.name.startswith(_COMPILED) for child in root.children)
    marked = Event(root.name, root.start + overhead.marker, root.end, root.children)
    return list(_spans(marked, ENTRY if compiled else PYTHON, overhead.event))


def _spans(event: Event, around: str, overhead: float) -> Iterator[Span]:
    name = _operator(event.name)
    if "::" in name or _GENERATED.match(name):
        yield Span(name, event.end - event.start - overhead * event.inside)
        return
    around = PYTHON if event.name.startswith(_WRAPPER) else around
    last = event.start
    for child in event.children:
        yield Span(around, child.start - last - overhead)
        yield from _spans(child, around, overhead)
        last = child.end
    yield Span(around, event.end - last)


def _operator(name: str) -> str:
    """With its namespace, by which it is told whether oneDNN does its work; other names as they are."""
    found = _SHIM.fullmatch(name)
    if found is None:
        return name
    return f"{'qegraph' if found[1] in ('qlinear', 'qconv') else 'aten'}::{found[1]}"


def record(call: Callable[[], object], calls: int) -> list[Event]:
    """The events of each of `calls` calls."""
    with _profiler() as seen:
        for _ in range(calls):
            with record_function(ROOT):
                call()
    return [_event(each) for each in seen.events() or () if each.name == ROOT]


@contextmanager
def _profiler() -> Generator[Any]:
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        yield seen


def _event(seen: Any) -> Event:
    children = sorted(seen.cpu_children, key=lambda child: child.time_range.start)
    return Event(seen.name, seen.time_range.start, seen.time_range.end, tuple(map(_event, children)))


def measure_overhead() -> Overhead:
    """By what `item`, two events that do next to nothing, takes under the profiler, and by markers around nothing."""
    number = torch.zeros(())
    plain, seen = [], []
    for _ in range(_PROBE_ROUNDS):
        plain.append(_repeat(number.item))
        with _profiler():
            seen.append(_repeat(number.item))
    marker = min(each.end - each.start for each in record(lambda: None, _PROBE_CALLS // 10))
    return Overhead(max(0.0, min(seen) - min(plain)) / 2, marker)


def _repeat(call: Callable[[], object]) -> float:
    """Microseconds of one of many calls."""
    begin = time.perf_counter()
    for _ in range(_PROBE_CALLS):
        call()
    return (time.perf_counter() - begin) / _PROBE_CALLS * 1e6
