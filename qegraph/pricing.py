"""What every e-node costs: estimated at the rates of this machine, measured on it, or as the caller says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from qegraph.cost import COMPILED, DEFAULTS, GENERIC_LINEARS, NATIVE_CALLS, Rates, rounded
from qegraph.kernels import Kernels, adds_in_32_bits
from qegraph.ops import WORDS
from qegraph.report import reads_codes
from qegraph.search import Search
from qegraph.snapshot import ENode, Snapshot
from qegraph.tuning import Store, Tuning, measured

CostFunction = Callable[[Snapshot, ENode], float]
Source = Literal["estimated", "measured"]
Target = Literal["eager", "compiled"]


def default_cost(snapshot: Snapshot, node: ENode, rates: Rates = DEFAULTS) -> float:
    """Estimated µs of one e-node, from the op table."""
    return WORDS[node.op].cost(snapshot, node, rates)


def float_penalty(snapshot: Snapshot, node: ENode) -> float:
    """A second for a contraction in floats of operands that are dequantized."""
    return 1e6 if node.op in ("Gemm", "Matmul") and reads_codes(snapshot, node) else 0.0


def estimates(of: Search, rates: Rates | None) -> list[float]:
    """Per e-node its cost at these rates, or at default ones for the thread count in force; inf: can't be chosen."""
    rates = rates or DEFAULTS.on(torch.get_num_threads())
    return [default_cost(of.snapshot, node, rates) for node in of.snapshot.nodes]


def price(
    cost: CostFunction | Source, of: Search, target: Target = "eager", require: str | None = None
) -> tuple[list[float], str]:
    """Costs (µs) of all e-nodes, and in words where they come from; `require` "int8" makes floats dear.

    Raises ValueError for an unknown source or target.
    """
    exact, origin = _price(cost, of, target)
    costs = [rounded(each) for each in exact]
    if require == "int8":
        costs = [each + float_penalty(of.snapshot, node) for each, node in zip(costs, of.snapshot.nodes, strict=True)]
    return costs, origin


def _price(cost: CostFunction | Source, of: Search, target: Target) -> tuple[list[float], str]:
    if callable(cost):
        return [cost(of.snapshot, node) for node in of.snapshot.nodes], "under the cost function given"
    if cost not in ("estimated", "measured"):
        raise ValueError(f'cost must be "estimated", "measured" or a function of (snapshot, e-node), got {cost!r}')
    if target == "compiled":
        if cost == "measured":
            raise ValueError('cost="measured" is about eager runs; with target="compiled" use "estimated"')
        is_generic = of.kernels == "onednn" and not adds_in_32_bits()
        compiled = replace(COMPILED, **GENERIC_LINEARS) if is_generic else COMPILED
        rates = _called(compiled, target, of.kernels).on(torch.get_num_threads())
        return estimates(of, rates), "estimated for compiled code"
    if target != "eager":
        raise ValueError(f'target must be "eager" or "compiled", got {target!r}')
    store = Store.here(torch.get_num_threads())
    known = store.read().rates
    rates = known or DEFAULTS.on(torch.get_num_threads())
    rates = _called(rates, target, of.kernels)
    estimated = estimates(of, rates)
    origin = "estimated at this machine's rates" if known else "estimated at default rates (see `qegraph calibrate`)"
    if cost == "estimated":
        return estimated, origin
    tuning = Tuning(store, of.budget.seconds)
    try:
        costs = measured(of, rates, partial(estimates, of), tuning)
    except Exception as problem:  # whatever the graph's own operators raise on inputs that aren't its own
        warnings.warn(f"nothing could be measured, costs are estimated: {problem!r}", stacklevel=5)
        return estimated, f"{origin}, as nothing could be measured"
    return costs, f"measured on this machine, {tuning.timed} kernels of them now; fastest: the form for {tuning.winner}"


def _called(rates: Rates, target: Target, kernels: Kernels) -> Rates:
    """The rates where int8 kernels are called by these operators."""
    if kernels == "onednn":
        return rates
    conv, linear = NATIVE_CALLS[target]
    return replace(rates, conv_call=rates.conv_call * conv, linear_call=rates.linear_call * linear)
