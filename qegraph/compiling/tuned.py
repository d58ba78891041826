"""Mode "tuned": the graph compiled with each of the settings that can make it faster, timed, and the fastest kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from qegraph import _dynamo
from qegraph._torch import hint
from qegraph.compiling.hand_over import Settings, hand_over
from qegraph.logs import LOGGER
from qegraph.progress import progress
from qegraph.report import Report
from qegraph.timing import interleave

_GEMM: Settings = {"max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}
_CPP: Settings = {"cpp_wrapper": True}

VARIANTS: Mapping[str, Settings] = {
    "default": {},
    "cpp_wrapper": _CPP,
    "max_autotune": _GEMM,
    "both": {**_CPP, **_GEMM},
}
_ROUNDS = 7


def fastest(fast: fx.GraphModule, report: Report, inputs: Sequence[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The compiled code that takes least time on these inputs, and the owners of its constants.

    A variant that Inductor can't compile is left out, which is logged; the default one must compile.
    """
    arguments = [hint(each) if isinstance(each, torch.SymInt) else each for each in inputs]
    made: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    with progress("tuning", len(VARIANTS) + 1, lines=False) as tell:
        for done, (name, settings) in enumerate(VARIANTS.items()):
            tell.done(done)
            tell(f"compiling: {name}")
            try:
                given = hand_over(fast, report)
                code = _dynamo.compile_graph(given.module, inputs, {**given.settings, **settings})
                code(*arguments)
                made[name] = code, given.owners
            except Exception as error:  # whatever Inductor raises for settings it can't serve this graph with
                if name == "default":
                    raise
                LOGGER.info("tuned: %s left out: %s: %s", name, type(error).__name__, error)
        tell.done(len(VARIANTS))
        tell("timing")
        timings = interleave({name: _call(code, arguments) for name, (code, _) in made.items()}, _ROUNDS)
    best = min(timings, key=lambda name: timings[name].median)
    LOGGER.info("tuned: %s; %s", best, ", ".join(f"{name} {each.median:.3f} ms" for name, each in timings.items()))
    return made[best]


def _call(code: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], object]:
    return lambda: code(*arguments)
