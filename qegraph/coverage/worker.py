"""A process that judges cells of one route, so that an engine which takes its process down loses one cell only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import TracebackType

from qegraph.errors import QegraphError

from .cell import Cell
from .judge import Outcome, Verdict

DEADLINE = 180.0
"""Seconds a cell may take, compilation included."""
BROKEN = "broken"
"""The verdict on a cell that can't be made: no route's fault."""


@dataclass
class Worker:
    """The parent's end. Starts the process when there is something to judge, and again after it was lost."""

    route: str
    deadline: float = DEADLINE
    command: tuple[str, ...] = (sys.executable, "-m", "qegraph.coverage.serve")
    dirty: bool = False
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def judge(self, cell: Cell) -> Outcome:
        """The outcome; a crash if the process ends or takes too long. What the engine prints is dropped."""
        process = self._process or self._start()
        timer = threading.Timer(self.deadline, process.kill)
        timer.start()
        try:
            answer = self._ask(process, json.dumps([cell.family, cell.name]))
        finally:
            timer.cancel()
        if not answer:
            self.stop()
            verdict, reason = Verdict.CRASH, f"the process was lost, exit code {process.returncode}"
        else:
            verdict, reason = json.loads(answer)
        if verdict == BROKEN:
            raise QegraphError(f"The cell {cell.family} {cell.name} can't be made: {reason}")
        self.dirty = self.dirty or verdict in (Verdict.WRONG, Verdict.CRASH)
        return Outcome(cell.family, cell.name, self.route, Verdict(verdict), reason)

    def refresh(self) -> None:
        """A new process if this one has seen something go wrong: its memory may be damaged."""
        if self.dirty:
            self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process, self.dirty = None, False

    def _start(self) -> subprocess.Popen[str]:
        command = [*self.command, self.route]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True, env=environment)
        return self._process

    @staticmethod
    def _ask(process: subprocess.Popen[str], line: str) -> str:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline()
