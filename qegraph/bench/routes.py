"""Variants that run the q/dq graph without code generation: as it is, lowered by torchao, and optimised by qegraph."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch.fx import GraphModule

import qegraph
from qegraph import native
from qegraph.kernels import Kernels
from qegraph.pricing import Source, Target
from qegraph.zoo import missing_extra

from .counts import count
from .subject import Built, Subject, Unavailable


def fp32(subject: Subject) -> Built:
    """The float module, eagerly: the baseline."""
    return Built(subject.model, None, 0.0)


def qdq(subject: Subject) -> Built:
    """The q/dq graph, eagerly: the oracle."""
    return Built(subject.quantized, count(subject.quantized), 0.0)


def torchao(subject: Subject) -> Built:
    """torchao's lowering to oneDNN ops, eagerly."""
    try:
        from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86
    except ImportError as error:
        raise missing_extra("torchao") from error
    copy = subject.copy()
    begin = time.perf_counter()
    lowered = lower_pt2e_quantized_to_x86(copy, subject.fresh())
    return Built(lowered, count(lowered), time.perf_counter() - begin)


def optimize(
    subject: Subject, target: Target, kernels: Kernels = "onednn", cost: Source = "estimated"
) -> tuple[GraphModule, float]:
    """Our graph for `target`, and the seconds it took."""
    copy = subject.copy()
    begin = time.perf_counter()
    fast = qegraph.optimize(copy, target=target, kernels=kernels, cost=cost)
    return fast, time.perf_counter() - begin


def eager(cost: Source, kernels: Kernels = "onednn") -> Callable[[Subject], Built]:
    """Our graph, eagerly. With measured costs, the note says whose form won; often the estimates', so the same code."""

    def build(subject: Subject) -> Built:
        if kernels == "native" and (reason := native.unavailable()):
            raise Unavailable(reason)
        fast, seconds = optimize(subject, "eager", kernels, cost)
        return Built(fast, count(fast), seconds, qegraph.explain(fast).prices if cost == "measured" else None)

    return build
