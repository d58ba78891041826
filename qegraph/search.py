"""`Search`: a program with all its equal forms, saturated once, chosen from and emitted as often as wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import fx

from qegraph.alarms import CONSTANTS, blame, disagreeing_constants
from qegraph.emit import Emitter
from qegraph.encode import Encoder, encode
from qegraph.engine import Engine
from qegraph.errors import ConflictError
from qegraph.evidence import Evidence
from qegraph.extract import Selection, extract
from qegraph.freeze import Freezer
from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.load_rules import select
from qegraph.nearmiss import Tables, reasons
from qegraph.program import Program
from qegraph.ready import fresh
from qegraph.report import Account, Report, compose, float_gemms
from qegraph.saturate import Budget, Saturation, saturate
from qegraph.snapshot import Snapshot


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


@dataclass(frozen=True)
class Search:
    """Made by `search`. rules, kernels  those it was saturated with. clock  the time of each stage so far."""

    program: Program
    rules: Sequence[Rule]
    budget: Budget
    engine: Engine
    encoder: Encoder
    saturation: Saturation
    freezer: Freezer
    snapshot: Snapshot
    evidence: Evidence
    clock: Clock = field(default_factory=Clock)
    kernels: Kernels = "onednn"

    def select(self, costs: Sequence[float]) -> Selection:
        """The cheapest form under these costs (µs), one per e-node."""
        return extract(self.snapshot, costs, time_limit=self.budget.seconds)

    def emit(self, selection: Selection) -> fx.GraphModule:
        """The graph of one form. Each call makes a new one; packed weights are shared."""
        with torch.no_grad():
            return Emitter(
                self.program, self.encoder, self.freezer, self.snapshot, selection, self.evidence, self.kernels
            ).run()

    def report(self, selection: Selection, module: fx.GraphModule, costs: Sequence[float], prices: str) -> Report:
        """What became of the program in `module`, emitted from `selection`, which was chosen under `costs` (µs, one per
        e-node); `prices` says where they came from.
        """
        with self.clock.stage("report"):
            floats = float_gemms(self.snapshot, selection)
            why = reasons(self.tables, self.rules, floats, self.saturation.limit) if floats else {}
            of = Account(
                self.program, self.snapshot, selection, self.evidence, self.freezer.value_class, module, costs,
                self.saturation.limit,
            )  # fmt: skip
            report = compose(of, why, self.saturation, prices)
        return replace(report, seconds=dict(self.clock.seconds))

    @cached_property
    def tables(self) -> Tables:
        """What patterns and guards are asked again about."""
        return Tables(self.freezer, self.snapshot, {number: name for name, number in self.encoder.symbols.items()})


def search(
    program: Program,
    rules: Sequence[Rule] | None = None,
    budget: Budget | None = None,
    clock: Clock | None = None,
    engine: Engine | None = None,
    kernels: Kernels = "onednn",
) -> Search:
    """encode -> saturate -> freeze, with all shipped exact rules unless others are given.

    Raises ConflictError where rules contradict each other (see `qegraph.alarms`).

    engine   of `ready(rules, kernels)`: the result is to be used no longer than that; without one it keeps an e-graph
             of its own.
    kernels  whose operators its forms may call, see `qegraph.optimize`.
    """
    rules = select(None) if rules is None else rules
    budget, clock = budget or Budget(), clock or Clock()
    with torch.no_grad():
        with clock.stage("encode"):
            engine = engine or fresh(rules, kernels)
            encoder = encode(program, engine)
        with clock.stage("saturate"):
            try:
                saturation = saturate(engine, budget)
            except ConflictError as conflict:
                raise blame(program, rules, conflict, budget.rounds, kernels) from conflict
        with clock.stage("freeze"):
            freezer = Freezer(engine, program)
            snapshot, evidence = freezer.snapshot(encoder.read), freezer.evidence(rules)
    if os.environ.get(CONSTANTS) and (wrong := disagreeing_constants(program, rules, snapshot, evidence)):
        raise wrong
    return Search(program, rules, budget, engine, encoder, saturation, freezer, snapshot, evidence, clock, kernels)
