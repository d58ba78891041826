"""The backend: from a graph traced by Dynamo to compiled code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from qegraph import _dynamo, native
from qegraph.compiling.freeze import Frozen, forget_state, freeze
from qegraph.compiling.inductor import compile_default
from qegraph.compiling.normalise import operators
from qegraph.compiling.options import Mode, Options, read
from qegraph.compiling.refuse import is_quantized, needs_gradient
from qegraph.compiling.reports import Piece, remember
from qegraph.compiling.run import Code
from qegraph.compiling.tuned import fastest
from qegraph.emit import META
from qegraph.errors import CaptureError, RequirementError, Unsupported
from qegraph.kernels import Kernels
from qegraph.load_rules import select
from qegraph.logs import LOGGER
from qegraph.pipeline import optimize
from qegraph.report import Report

Compiled = Callable[..., Any]


def backend(
    gm: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """`torch.compile(model, backend="qegraph")`: optimise what is quantized, and have Inductor compile the result.

    Parameters and buffers are constants. Put another tensor in the place of one, and the model is compiled again; write
    into one (`load_state_dict`), and its graph runs uncompiled from then on, right but slow, with a warning; call
    `torch.compiler.reset()` after such a change. A write to `tensor.data` isn't noticed.

    mode     "default" or "tuned".
    options  see `qegraph.compiling.options.Options`: rules, cost, budget, require, kernels, mode.

    A graph that quantizes nothing is left to Inductor. So is, with a warning that says why, one that needs gradients or
    that can't be read or optimised soundly. `qegraph.compiled_reports` says what was done.
    Raises QegraphError for an unknown option, RuleError for a malformed rule, RequirementError as `optimize` does.
    """
    chosen = read(mode, options)
    select(chosen.rules)  # what is wrong with them is the caller's to know, whatever becomes of the graph
    if not is_quantized(gm, example_inputs):
        return _inductor_alone(gm, example_inputs, "nothing in it is quantized")
    reason = needs_gradient(gm, example_inputs)
    if reason is not None:
        return _left_alone(gm, example_inputs, reason)
    frozen = freeze(gm, example_inputs)
    kernels = _kernels(chosen)
    try:
        fast = _optimize(frozen.module, chosen, kernels)
    except RequirementError:
        raise
    except (CaptureError, Unsupported) as error:
        return _left_alone(gm, example_inputs, f"{type(error).__name__}: {error}")
    except Exception as error:
        if chosen.rules is not None or callable(chosen.cost):
            raise  # it may be theirs, and a warning has no traceback
        return _left_alone(gm, example_inputs, f"a defect of qegraph, please report it: {error!r}")
    unchanged = fast.meta[META].unchanged
    if unchanged:
        return _left_alone(gm, example_inputs, unchanged)

    def optimised(which: Kernels) -> fx.GraphModule:
        return fast if which == kernels else _optimize(frozen.module, chosen, which)

    code, report = _compile(optimised, kernels, frozen, example_inputs, chosen.mode)
    LOGGER.info("compiled: %s", report.summary)
    forget_state(gm, example_inputs)
    remember(code, Piece(report, frozen.state))
    return code


def _optimize(module: fx.GraphModule, options: Options, kernels: Kernels) -> fx.GraphModule:
    with torch.inference_mode(False), torch.no_grad():
        return optimize(
            operators(module),
            rules=options.rules,
            cost=options.cost,
            budget=options.budget,
            require=options.require,
            target="compiled",
            kernels=kernels,
        )


def _kernels(options: Options) -> Kernels:
    if options.kernels != "auto":
        return options.kernels
    reason = native.unavailable()
    if reason is not None:
        LOGGER.info("int8 kernels are called by torch's operators, which cost up to 30 µs a call more: %s", reason)
    return "native" if reason is None else "onednn"


def _compile(
    optimised: Callable[[Kernels], fx.GraphModule], kernels: Kernels, frozen: Frozen, inputs: Sequence[Any], mode: Mode
) -> tuple[Code, Report]:
    """The graph has its casts, so that autocast is off while it is compiled and, if it was on, while it runs."""
    had_autocast = torch.is_autocast_enabled("cpu")
    needed = frozen.inputs(inputs)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        if mode == "tuned":
            made = fastest(optimised, kernels, needed)
        else:
            made = compile_default(optimised(kernels), kernels, needed)
    return Code(made.code, made.given.owners, frozen, had_autocast), made.fast.meta[META]


def _left_alone(gm: fx.GraphModule, inputs: Sequence[Any], reason: str) -> Compiled:
    warnings.warn(f"qegraph leaves a graph to Inductor, without its int8 kernels: {reason}", stacklevel=3)
    return _inductor_alone(gm, inputs, reason)


def _inductor_alone(gm: fx.GraphModule, inputs: Sequence[Any], reason: str) -> Compiled:
    LOGGER.info("left to Inductor: %s", reason)
    state = [each for each in inputs if isinstance(each, torch.Tensor)]
    compiled = _dynamo.compile_graph(gm, inputs, {})
    remember(compiled, Piece(Report(unchanged=reason), tuple(state)))
    return compiled
