"""Mode "tuned": the graph compiled in each of the ways that can make it faster, timed, and the fastest kept."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload, hint, pytree
from qegraph.compiling.hand_over import Settings
from qegraph.compiling.inductor import Made, compile_default, compile_with
from qegraph.emit import META
from qegraph.kernels import Kernels, adds_in_32_bits
from qegraph.logs import LOGGER
from qegraph.progress import progress
from qegraph.report import Report
from qegraph.timing import interleave

_CPP: Settings = {"cpp_wrapper": True}
_TEMPLATES: Settings = {**_CPP, "max_autotune": True, "max_autotune_gemm_backends": "CPP"}
_BESIDE = " beside operators"
"""Of a variant that is tried if the one without it can't be: not every product has a template. To compile each of the
others twice, to time it beside torch's operator, takes Inductor twice as long.
"""

_LINEARS = ("onednn::qlinear_pointwise", "qegraph::qlinear")
_ROUNDS = 7
_GROSS = 0.5
"""Of the norm of a result: roundings, amplified by a deep graph, may make a tenth of it, what is wrong makes all."""


def fastest(optimised: Callable[[Kernels], fx.GraphModule], kernels: Kernels, inputs: Sequence[Any]) -> Made:
    """What takes least time on these inputs; `optimised` gives the graph with either kind of operators.

    A variant that can't be compiled is left out, which is logged; the default one must compile. So is one that computes
    something else than the default one, with a warning: some of Inductor's templates do.
    """
    arguments = [hint(each) if isinstance(each, torch.SymInt) else each for each in inputs]
    fast = optimised(kernels)
    with progress("tuning", lines=False) as tell:
        tell("compiling: default")
        made = {"default": compile_default(fast, kernels, inputs)}
        results = made["default"].code(*arguments)
        for name, other, settings in _variants(fast, optimised, kernels):
            if name.removesuffix(_BESIDE) in made:
                continue
            tell(f"compiling: {name}")
            try:
                variant = compile_with(other, inputs, settings)
                found = variant.code(*arguments)
            except Exception as error:  # whatever Inductor raises for settings it can't serve this graph with
                LOGGER.info("tuned: %s left out: %s: %s", name, type(error).__name__, error)
                continue
            if is_wrong(found, results):
                warnings.warn(f"tuned: Inductor's code is wrong and left out: {name}", stacklevel=2)
            else:
                made[name] = variant
        tell("timing")
        timings = interleave({name: _call(each.code, arguments) for name, each in made.items()}, _ROUNDS)
    best = min(timings, key=lambda name: timings[name].median)
    LOGGER.info("tuned: %s; %s", best, ", ".join(f"{name} {each.median:.3f} ms" for name, each in timings.items()))
    return made[best]


def _variants(
    fast: fx.GraphModule, optimised: Callable[[Kernels], fx.GraphModule], kernels: Kernels
) -> Iterator[tuple[str, fx.GraphModule, Settings]]:
    """Besides the default one. Ours have the C++ wrapper by default.

    Inductor's GEMM templates are for linears, and take the place of torch's operators only. By themselves they are no
    faster than ours; what they gain is the pointwise code behind a product, which they run while it is in the cache.
    Where there is none, or convolutions are the most, that isn't worth the minutes. Without VNNI they don't use int8
    instructions, and take thirty times as long as oneDNN's kernels (llama_style on AVX2, two threads).
    """
    if kernels == "onednn":
        yield "cpp_wrapper", fast, _CPP
    if not adds_in_32_bits():
        return
    report: Report = fast.meta[META]
    kinds = Counter(each.kind for each in report.contractions)
    if kinds["linear"] > kinds["conv"] and any(map(_leads_to_pointwise, fast.graph.nodes)):
        other = fast if kernels == "onednn" else optimised("onednn")
        yield "templates", other, _TEMPLATES
        yield f"templates{_BESIDE}", other, {**_TEMPLATES, "max_autotune_gemm_backends": "CPP,ATEN"}


def _leads_to_pointwise(node: fx.Node) -> bool:
    """Is a call of a linear kernel whose result goes into a pointwise operator."""
    is_linear = isinstance(node.target, OpOverload) and node.target.name().startswith(_LINEARS)
    return is_linear and any(torch.Tag.pointwise in getattr(user.target, "tags", ()) for user in node.users)


def is_wrong(found: Any, wanted: Any) -> bool:
    """A result differs from another one by more than roundings can make of it."""
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(wanted), strict=True)
    return any(_is_off(one, other) for one, other in pairs if isinstance(other, torch.Tensor) and other.numel())


def _is_off(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    one, other = found.double().nan_to_num(), wanted.double().nan_to_num()
    return float((one - other).norm()) > _GROSS * float(other.norm())


def _call(code: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], object]:
    return lambda: code(*arguments)
