"""`optimize`: capture -> encode -> saturate -> extract -> emit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import fx

from qegraph import native
from qegraph._torch import codegen_of
from qegraph.capture import capture
from qegraph.emit import META
from qegraph.errors import CaptureError, RequirementError, Unsupported
from qegraph.kernels import Kernels
from qegraph.load_rules import RuleItem, select
from qegraph.logs import log_rules, log_stages
from qegraph.pricing import CostFunction, Source, Target, price
from qegraph.ready import ready
from qegraph.report import Report
from qegraph.saturate import Budget
from qegraph.search import Clock, search
from qegraph.settled import Wanted, is_settled, settle
from qegraph.verify import Verdict, Verify, calls_of, verified


def optimize(
    gm: fx.GraphModule | torch.export.ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    *,
    rules: Sequence[RuleItem] | None = None,
    cost: CostFunction | Source = "estimated",
    budget: Budget | None = None,
    require: Literal["int8"] | None = None,
    target: Target = "eager",
    kernels: Kernels = "onednn",
    verify: Verify = False,
) -> fx.GraphModule:
    """The cheapest sound form of a PT2E-quantized graph that the rules know.

    gm              an fx graph with quantize/dequantize operators: what torchao's `convert_pt2e` gives, or decomposed.
                    It is not modified; constants are shared with the result.
    example_inputs  the arguments of a call, needed only where the graph doesn't say its inputs' shapes.
    rules           see `qegraph.load_rules.select`: "default", names to add or "-NAME" to take away, rules, paths
                    of files and folders, modules, "pack:NAME" of an installed pack; all shipped exact ones by default.
    cost            "estimated", from this machine's rates if `qegraph calibrate` has measured them; "measured": kernels
                    that can change the choice are timed here, once; or a function that gives the µs of an e-node. The
                    sum over the selected e-nodes is minimised.
    budget          limits of the search; reaching one is reported and still gives a sound result.
    require         "int8": prefer int8 kernels whatever they cost, and raise RequirementError, with the reasons, if a
                    quantized matmul or conv stays float.
    target          "eager", or "compiled" for a result that will be given to `torch.compile`: what stands between the
                    kernels is then computed in passing, and never worth a second kernel.
    kernels         "onednn", torch's operators; or "native", our own, which keep what those make anew on every call: up
                    to 30 µs a call less, the same results. They are built on first use (see `qegraph.native`).
    verify          True: run both graphs, on `example_inputs` if these are real tensors, otherwise on inputs made from
                    the placeholders' metadata, and compare every value and every result. Or a list with the arguments
                    of each call to do that on, as in [(x,), (y,)]. A result that breaks the numeric contract is
                    refused: the graph comes back as it is, and the report says which node was off, by how much, and
                    which rules had made it. The same where the graph can't be run on the inputs.

    A graph that can't be improved soundly comes back as an equal graph; `qegraph.explain(result)` says why. So does a
    result that is given again, with the report it has, unless it was edited or another result is asked for.
    Raises CaptureError for a graph or inputs that can't be read, RuleError for a malformed rule, QegraphError where
    there are no native kernels, with the reason.
    """
    native.require(kernels)
    chosen = select(rules)
    budget = budget or Budget()
    wanted = Wanted(chosen, budget, cost, target, kernels, require, torch.get_num_threads())
    if verify is False and isinstance(gm, fx.GraphModule) and is_settled(gm, wanted):
        return _same(gm, gm.meta[META])
    clock = Clock()
    try:
        with clock.stage("capture"):
            program = capture(gm, example_inputs)
    except Unsupported as reason:
        return _unchanged(gm, str(reason), require)
    source = _module_of(gm)
    calls = calls_of(verify, example_inputs, source.graph, program)
    with ready(chosen, kernels) as engine:
        found = search(program, chosen, budget, clock, engine, kernels)
        with clock.stage("price"):
            costs, prices = price(cost, found, target, require)
        with clock.stage("extract"):
            selection = found.select(costs)
        with clock.stage("emit"):
            module = found.emit(selection)
        verdict = Verdict()
        if calls is not None:
            with clock.stage("verify"):
                verdict = verified(source, found, selection, module, calls)
        if verdict.refused:
            return _unchanged(gm, verdict.refused, require)
        report = replace(found.report(selection, module, costs, prices), verified=verdict.verified)
    module.meta[META] = report
    log_stages(clock.seconds)
    log_rules(report)
    _check(report, require)
    settle(module, wanted)
    return module


def _module_of(gm: Any) -> fx.GraphModule:
    return gm.module() if isinstance(gm, torch.export.ExportedProgram) else gm


def _unchanged(gm: Any, reason: str, require: str | None) -> fx.GraphModule:
    """The same graph over the same modules, with a report that says why."""
    if require is not None:
        raise RequirementError(f"require={require!r}: the graph stays as it is: {reason}")
    return _same(gm, Report(unchanged=reason))


def _same(gm: Any, report: Report) -> fx.GraphModule:
    """A copy of the graph over the same modules."""
    source = _module_of(gm)
    graph = fx.Graph()
    result = graph.graph_copy(source.graph, {}, return_output_node=True)
    if result is None or not isinstance(result, tuple):
        raise CaptureError("the graph has no output node")
    graph.output(result[0])
    graph.set_codegen(codegen_of(source.graph))
    module = fx.GraphModule(source, graph, type(source).__name__)
    module.meta = {**source.meta, META: report}
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
