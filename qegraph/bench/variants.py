"""The ways to run one quantized model that the benchmark compares."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch._inductor import config as inductor_config
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, GraphModule

import qegraph
from qegraph.pricing import Target
from qegraph.zoo import Inputs, missing_extra

from .counts import Counts, count, total

Runner = Callable[..., object]


@dataclass(frozen=True)
class Subject:
    """One model under test: the float module, its q/dq graph and example inputs."""

    model: nn.Module
    quantized: GraphModule
    inputs: Inputs

    def copy(self) -> GraphModule:
        """The q/dq graph for a variant to change."""
        return deepcopy(self.quantized)

    def fresh(self) -> Inputs:
        """Inputs for a variant to keep: some lowered graphs write into them."""
        return tuple(each.clone() for each in self.inputs)


@dataclass(frozen=True)
class Built:
    """A variant ready to run.

    counts   of the graph it runs, where there is one to look at.
    seconds  from q/dq graph to ready, the first call included where that is when the work is done.
    """

    run: Runner
    counts: Counts | None
    seconds: float


def _fp32(subject: Subject) -> Built:
    return Built(subject.model, None, 0.0)


def _qdq(subject: Subject) -> Built:
    return Built(subject.quantized, count(subject.quantized), 0.0)


def _torchao(subject: Subject) -> Built:
    try:
        from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86
    except ImportError as error:
        raise missing_extra("torchao") from error
    copy = subject.copy()
    begin = time.perf_counter()
    lowered = lower_pt2e_quantized_to_x86(copy, subject.fresh())
    return Built(lowered, count(lowered), time.perf_counter() - begin)


class _Recorder(CustomGraphPass):
    """Counts each graph Inductor is about to generate code for, after its quantization passes; changes nothing.

    Inductor keeps quantize and dequantize as calls up to code generation, so they can be counted here.
    """

    def __init__(self) -> None:
        self.counts: list[Counts] = []

    def __call__(self, graph: Graph) -> None:
        self.counts.append(count(graph))

    def uuid(self) -> None:
        """No caching: a cached graph would never be shown to the pass."""
        return


def _inductor(subject: Subject) -> Built:
    recorder = _Recorder()
    copy = subject.copy()
    begin = time.perf_counter()
    compiled = torch.compile(copy)
    with inductor_config.patch(freezing=True, post_grad_custom_post_pass=recorder):
        compiled(*subject.fresh())
        compiled(*subject.fresh())
    return Built(compiled, total(recorder.counts), time.perf_counter() - begin)


def _optimize(subject: Subject, target: Target) -> tuple[GraphModule, float]:
    copy = subject.copy()
    begin = time.perf_counter()
    fast = qegraph.optimize(copy, target=target)
    return fast, time.perf_counter() - begin


def _qegraph(subject: Subject) -> Built:
    fast, seconds = _optimize(subject, "eager")
    return Built(fast, count(fast), seconds)


def _qegraph_compile(subject: Subject) -> Built:
    fast, _ = _optimize(subject, "compiled")
    counts = count(fast)
    begin = time.perf_counter()
    compiled = torch.compile(fast)
    compiled(*subject.fresh())
    compiled(*subject.fresh())
    return Built(compiled, counts, time.perf_counter() - begin)


BUILDERS: Mapping[str, Callable[[Subject], Built]] = {
    "fp32": _fp32,
    "qdq": _qdq,
    "torchao": _torchao,
    "inductor": _inductor,
    "qegraph": _qegraph,
    "qegraph+compile": _qegraph_compile,
}
"""Variant name -> how to build it. The first two are the baseline and the oracle; they are always built."""

BASELINE, ORACLE = "fp32", "qdq"
OURS = ("qegraph", "qegraph+compile")
