"""All parts of a report, put together."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from qegraph.program import operator_name
from qegraph.report import drawing
from qegraph.report.account import Account
from qegraph.report.contractions import contractions
from qegraph.report.fates import fates
from qegraph.report.record import Report
from qegraph.saturate import Saturation

_WATCHED = {
    "quantize": ("quantize_per_tensor", "quantize_per_channel"),
    "dequantize": ("dequantize_per_tensor", "dequantize_per_channel"),
    "activation": ("relu", "hardtanh", "clamp", "hardswish", "silu", "gelu", "leaky_relu"),
}


def compose(
    of: Account,
    reasons: Mapping[int, str],
    saturation: Saturation,
    prices: str,
) -> Report:
    """The report, but for the time it all took.

    reasons  e-class of a contraction left in floats -> what kept it from being an int8 kernel.
    """
    fate = fates(of)
    found = contractions(of, reasons, fate)
    return Report(
        contractions=found,
        left=_left(of.module),
        fate=fate,
        cost=of.selection.cost,
        lower_bound=of.selection.lower_bound,
        method=of.selection.method,
        prices=prices,
        largest_cycle=of.selection.largest_cycle,
        notes=(*of.program.notes, *of.selection.notes),
        rounds=saturation.rounds,
        limit=of.limit,
        before=drawing.before(of, fate),
        after=drawing.after(of, {each.name: each for each in found}),
    )


def _left(module: fx.GraphModule) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in module.graph.nodes:
        name = operator_name(node.target) if node.op == "call_function" else ""
        for label, prefixes in _WATCHED.items():
            if name in prefixes:
                found.setdefault(label, []).append(node.name)
    return {label: tuple(found[label]) for label in _WATCHED if label in found}
