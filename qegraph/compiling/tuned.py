"""Mode "tuned": the graph compiled in each of the ways that can make it faster, timed, and the fastest kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import hint
from qegraph.compiling.hand_over import Settings
from qegraph.compiling.inductor import Made, compile_default, compile_with
from qegraph.emit import META
from qegraph.kernels import Kernels
from qegraph.logs import LOGGER
from qegraph.progress import progress
from qegraph.report import Report
from qegraph.timing import interleave

_CPP: Settings = {"cpp_wrapper": True}
_TEMPLATES: Settings = {**_CPP, "max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}
_ROUNDS = 7


def fastest(optimised: Callable[[Kernels], fx.GraphModule], kernels: Kernels, inputs: Sequence[Any]) -> Made:
    """What takes least time on these inputs; `optimised` gives the graph with either kind of operators.

    A variant that can't be compiled is left out, which is logged; the default one must compile.
    """
    arguments = [hint(each) if isinstance(each, torch.SymInt) else each for each in inputs]
    fast = optimised(kernels)
    with progress("tuning", lines=False) as tell:
        tell("compiling: default")
        made = {"default": compile_default(fast, kernels, inputs)}
        for name, other, settings in _variants(fast, optimised, kernels):
            tell(f"compiling: {name}")
            try:
                made[name] = compile_with(other, inputs, settings)
                made[name].code(*arguments)
            except Exception as error:  # whatever Inductor raises for settings it can't serve this graph with
                made.pop(name, None)
                LOGGER.info("tuned: %s left out: %s: %s", name, type(error).__name__, error)
        tell("timing")
        timings = interleave({name: _call(each.code, arguments) for name, each in made.items()}, _ROUNDS)
    best = min(timings, key=lambda name: timings[name].median)
    LOGGER.info("tuned: %s; %s", best, ", ".join(f"{name} {each.median:.3f} ms" for name, each in timings.items()))
    return made[best]


def _variants(
    fast: fx.GraphModule, optimised: Callable[[Kernels], fx.GraphModule], kernels: Kernels
) -> Iterator[tuple[str, fx.GraphModule, Settings]]:
    """Besides the default one. Inductor's GEMM templates are for linears, and take the place of torch's operators only.

    Ours have the C++ wrapper by default.
    """
    if kernels == "onednn":
        yield "cpp_wrapper", fast, _CPP
    report: Report = fast.meta[META]
    if not any(each.kind == "conv" for each in report.contractions):
        yield "templates", fast if kernels == "onednn" else optimised("onednn"), _TEMPLATES


def _call(code: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], object]:
    return lambda: code(*arguments)
