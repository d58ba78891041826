"""`optimize`: capture -> encode -> saturate -> extract -> emit."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import fx

from qegraph._torch import codegen_of
from qegraph.capture import capture
from qegraph.emit import META, Emitter
from qegraph.encode import encode
from qegraph.errors import CaptureError, RequirementError, Unsupported
from qegraph.extract import extract
from qegraph.extract.units import DIGITS
from qegraph.freeze import Freezer
from qegraph.lang.rule import Rule
from qegraph.lang.terms import subterms
from qegraph.load_rules import select
from qegraph.ops import WORDS
from qegraph.report import LOWERINGS, Account, Report, account, float_gemms
from qegraph.saturate import Budget, near_misses, saturate
from qegraph.snapshot import ENode, Snapshot

CostFunction = Callable[[Snapshot, ENode], float]


def default_cost(snapshot: Snapshot, node: ENode) -> float:
    """Estimated µs of one e-node, from the op table."""
    return WORDS[node.op].cost(snapshot, node)


def estimate(snapshot: Snapshot, cost: CostFunction = default_cost) -> list[float]:
    """µs of every e-node, to 10 ps: an estimate means no more, and then optima are exact and gaps 0."""
    return [round(cost(snapshot, node), DIGITS) for node in snapshot.nodes]


def optimize(
    gm: fx.GraphModule | torch.export.ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    *,
    rules: Sequence[Rule | str | Path] | None = None,
    cost: CostFunction = default_cost,
    budget: Budget | None = None,
    require: Literal["int8"] | None = None,
) -> fx.GraphModule:
    """The cheapest sound form of a PT2E-quantized graph that the rules know.

    gm              an fx graph with quantize/dequantize operators: what torchao's `convert_pt2e` gives, or decomposed.
                    It is not modified; constants are shared with the result.
    example_inputs  the arguments of a call, needed only where the graph doesn't say its inputs' shapes.
    rules           rules, names of shipped rules, or paths of rule files; all shipped exact rules by default.
    cost            estimated µs of an e-node, counted to 10 ps; the sum over the selected e-nodes is minimised.
    budget          limits of the search; reaching one is reported and still gives a sound result.
    require         "int8": raise RequirementError, with the reasons, if a quantized matmul or conv stays float.

    A graph that can't be improved soundly comes back as an equal graph; `qegraph.explain(result)` says why.
    Raises CaptureError for a graph that can't be read, RuleError for a malformed rule.
    """
    chosen = select(rules)
    budget = budget or Budget()
    clock = _Clock()
    try:
        with clock.stage("capture"):
            program = capture(gm, example_inputs)
    except Unsupported as reason:
        return _unchanged(gm, str(reason), require)
    with torch.no_grad():
        with clock.stage("encode"):
            engine, encoder = encode(program)
        with clock.stage("saturate"):
            saturation = saturate(engine, chosen, budget)
        with clock.stage("extract"):
            freezer = Freezer(engine, program)
            snapshot = freezer.snapshot()
            selection = extract(snapshot, estimate(snapshot, cost), time_limit=budget.seconds)
        with clock.stage("emit"):
            module = Emitter(program, encoder, freezer, snapshot, selection, freezer.evidence(chosen)).run()
        with clock.stage("report"):
            failures = {}
            if float_gemms(snapshot, selection):
                lowering = [rule for rule in chosen if any(_makes(rule, *words) for words in LOWERINGS)]
                near_misses(engine, lowering)
                failures = freezer.failures(lowering)
    of = Account(program, snapshot, selection, freezer.value_class, module, saturation.limit)
    report = account(of, failures, saturation, clock.seconds)
    module.meta[META] = report
    _check(report, require)
    return module


def _makes(rule: Rule, source: str, kernel: str) -> bool:
    return rule.lhs.head == source and any(term.head == kernel for term in subterms(rule.rhs))


def _unchanged(gm: Any, reason: str, require: str | None) -> fx.GraphModule:
    """The same graph over the same modules, with a report that says why."""
    source = gm.module() if isinstance(gm, torch.export.ExportedProgram) else gm
    graph = fx.Graph()
    result = graph.graph_copy(source.graph, {}, return_output_node=True)
    if result is None or not isinstance(result, tuple):
        raise CaptureError("the graph has no output node")
    graph.output(result[0])
    graph.set_codegen(codegen_of(source.graph))
    module = fx.GraphModule(source, graph, type(source).__name__)
    module.meta[META] = Report(unchanged=reason)
    if require is not None:
        raise RequirementError(f"require={require!r}: the graph stays as it is: {reason}")
    return module


def _check(report: Report, require: str | None) -> None:
    if require is None:
        return
    if require != "int8":
        raise ValueError(f"require must be None or 'int8', got {require!r}")
    floats = report.floats()
    if floats:
        lines = [f"  {each.source or each.name} ({each.kind}): {each.reason}" for each in floats]
        raise RequirementError("\n".join([f"{len(floats)} quantized contractions stay float:", *lines]))


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
