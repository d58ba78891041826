"""Translation validation on given inputs: every emitted value against the value of the input graph it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph.emit import META

FLOAT_TOLERANCE = 1e-5
"""Relative to the largest magnitude of the tensor, per fused operator."""

HALF_TOLERANCE = 2.0
"""The same for bfloat16 and float16, in units of their precision: the oracle itself is that far off."""

FLIPPED_SHARE = 1e-4
"""Share of integer elements that may differ by 1: rounding ties."""


@dataclass(frozen=True)
class Difference:
    """How one emitted value differs from the oracle's when it is fed the oracle's own inputs.

    share  of elements that differ (integers) or of all elements (floats: 0 or 1, outside the tolerance).
    worst  largest difference: in LSB for integers, relative to the tensor's largest magnitude for floats.
    """

    node: str
    source: str
    worst: float
    share: float
    elements: int
    integer: bool
    tolerance: float = FLOAT_TOLERANCE

    def __str__(self) -> str:
        if self.worst == float("inf"):
            return "has another dtype or shape, or is NaN or infinite somewhere else"
        if self.integer:
            return f"is off by {self.worst:.0f} LSB, {round(self.share * self.elements)} of {self.elements} differ"
        return f"is off by {self.worst:.2g} of its largest magnitude, allowed {self.tolerance:.2g}"

    @property
    def within_contract(self) -> bool:
        if self.integer:
            return self.worst <= 1 and self.share * self.elements <= max(1.0, FLIPPED_SHARE * self.elements)
        return self.worst <= self.tolerance


def validate(gm: fx.GraphModule, fast: fx.GraphModule, inputs: Sequence[Any]) -> tuple[Difference, ...]:
    """Run both graphs on `inputs`; compare, node by node, all values of `fast` that stand for a value of `gm`.

    After each comparison the oracle's value takes the place of the emitted one, so that differences don't add up.
    """
    oracle = Recorder(gm)
    with torch.no_grad():
        oracle.call(*gm.graph.process_inputs(*inputs))
        checker = Checker(fast, oracle.values)
        checker.call(*fast.graph.process_inputs(*inputs))
    return tuple(checker.differences)


class Recorder(fx.Interpreter):
    """Keeps every tensor by the name of its node, copied before a later node can overwrite it."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.extra_traceback = False  # it would be added to messages
        self.values: dict[str, torch.Tensor] = {}

    def call(self, *flat: Any) -> Any:
        """The results, flat, for one argument per placeholder."""
        return self.run(*flat, enable_io_processing=False)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor) and result.layout is torch.strided and n.op != "output":
            self.values[n.name] = result if n.op in ("placeholder", "get_attr") else result.clone()
        return result


class Checker(Recorder):
    """Runs an optimised graph; `oracle` has the values of the graph it was made of."""

    def __init__(self, fast: fx.GraphModule, oracle: Mapping[str, torch.Tensor]) -> None:
        super().__init__(fast)
        self.oracle = oracle
        self.differences: list[Difference] = []

    def run_node(self, n: fx.Node) -> Any:
        result = fx.Interpreter.run_node(self, n)
        source, expected = self._expected(n)
        if expected is None or not isinstance(result, torch.Tensor) or n.meta[META]["op"] == "Opaque":
            return result
        self.differences.append(compare(n.name, source, result, expected))
        return torch.empty_like(result).copy_(expected) if result.shape == expected.shape else result

    def _expected(self, n: fx.Node) -> tuple[str, torch.Tensor | None]:
        """The source value that the node computes, in its order of dims, and that value's name."""
        made: dict[str, Any] = n.meta.get(META, {}) if n.op == "call_function" else {}
        if made.get("permuted"):
            source, order = made["permuted"]
            value = self.oracle.get(source)
            return source, None if value is None else value.permute([order.index(i) for i in range(len(order))])
        source = made.get("equals") or ""
        return source, self.oracle.get(source)


def compare(node: str, source: str, found: torch.Tensor, expected: torch.Tensor) -> Difference:
    """Difference of two tensors of one dtype and shape; a difference of those is infinite, and so is a NaN or an
    infinity in one of them only.
    """
    integer = not expected.dtype.is_floating_point
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return Difference(node, source, float("inf"), 1.0, expected.numel(), integer)
    if not expected.numel():
        return Difference(node, source, 0.0, 0.0, 0, integer)
    wanted = _wide(expected)
    gap = _gap(_wide(found), wanted)
    if integer:
        return Difference(node, source, float(gap.max()), float((gap > 0).double().mean()), gap.numel(), True)
    largest = wanted.abs().where(wanted.isfinite(), 0.0).max()
    worst = float(gap.max() / largest.clamp_min(1e-30))
    is_half = expected.dtype.itemsize == 2
    tolerance = HALF_TOLERANCE * torch.finfo(expected.dtype).eps if is_half else FLOAT_TOLERANCE
    return Difference(node, source, worst, float(worst > tolerance), gap.numel(), False, tolerance)


def _wide(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x).double() if x.is_complex() else x.double()


def _gap(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    same = (found == expected) | (found.isnan() & expected.isnan())
    return (found - expected).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0.0)
