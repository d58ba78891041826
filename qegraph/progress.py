"""How far long work has come: a bar where stderr is a terminal; elsewhere lines, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Tell(Protocol):
    """`tell(message)` says what is being done; `tell.done(n)` that n of all steps are."""

    def __call__(self, message: str) -> None: ...
    def done(self, steps: int) -> None: ...


class _Lines:
    """Lines with the seconds since the start; none unless `speaks`."""

    def __init__(self, speaks: bool) -> None:
        self.begin = time.perf_counter()
        self.speaks = speaks

    def __call__(self, message: str) -> None:
        if self.speaks:
            print(f"[{time.perf_counter() - self.begin:6.1f} s] {message}", file=sys.stderr, flush=True)

    def done(self, steps: int) -> None:
        pass


SILENT: Tell = _Lines(speaks=False)
"""For callers who don't want to know."""


class _Bar:
    def __init__(self, shown: Progress, label: str, steps: int | None) -> None:
        self.shown = shown
        self.task = shown.add_task("", total=steps, label=label)

    def __call__(self, message: str) -> None:
        self.shown.update(self.task, description=message)

    def done(self, steps: int) -> None:
        self.shown.update(self.task, completed=steps)


@contextmanager
def progress(label: str, steps: int | None = None, lines: bool = True) -> Generator[Tell]:
    """Shown while it lasts, on stderr: stdout is for results. `steps`: how many there are, if that is known.

    lines  where there is no terminal, print each message; for libraries False: they don't write to a log unasked.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(lines)
        return
    columns = (
        TextColumn("{task.fields[label]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield _Bar(shown, label, steps)
