"""Translation validation on given inputs: every emitted value against the value of the input graph it stands for."""

from __future__ import annotations

from collections.abc import Sequence
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

    @property
    def within_contract(self) -> bool:
        if self.integer:
            return self.worst <= 1 and self.share * self.elements <= max(1.0, FLIPPED_SHARE * self.elements)
        return self.worst <= self.tolerance


def validate(gm: fx.GraphModule, fast: fx.GraphModule, inputs: Sequence[Any]) -> tuple[Difference, ...]:
    """Run both graphs on `inputs`; compare, node by node, all values of `fast` that stand for a value of `gm`.

    After each comparison the oracle's value takes the place of the emitted one, so that differences don't add up.
    """
    oracle = _Recorder(gm)
    with torch.no_grad():
        oracle.run(*inputs)
        checker = _Checker(fast, oracle.values)
        checker.run(*inputs)
    return tuple(checker.differences)


class _Recorder(fx.Interpreter):
    """Keeps a copy of every tensor, made before a later node can overwrite it."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm, garbage_collect_values=False)
        self.values: dict[str, torch.Tensor] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return super().run(*self.module.graph.process_inputs(*args), enable_io_processing=False)  # type: ignore[union-attr]

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            self.values[n.name] = result.clone()
        return result


class _Checker(_Recorder):
    def __init__(self, fast: fx.GraphModule, oracle: dict[str, torch.Tensor]) -> None:
        super().__init__(fast)
        self.oracle = oracle
        self.differences: list[Difference] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        source, expected = self._expected(n)
        if expected is None or not isinstance(result, torch.Tensor) or n.meta[META]["op"] == "Opaque":
            return result
        self.differences.append(compare(n.name, source, result, expected))
        return torch.empty_like(result).copy_(expected)

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
    """Difference of two tensors of one dtype and shape; a difference of those is infinite."""
    integer = not expected.dtype.is_floating_point
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return Difference(node, source, float("inf"), 1.0, expected.numel(), integer)
    if not expected.numel():
        return Difference(node, source, 0.0, 0.0, 0, integer)
    gap = (found.double() - expected.double()).abs()
    if integer:
        return Difference(node, source, float(gap.max()), float((gap > 0).double().mean()), gap.numel(), True)
    worst = float(gap.max() / expected.double().abs().max().clamp_min(1e-30))
    is_half = expected.dtype.itemsize == 2
    tolerance = HALF_TOLERANCE * torch.finfo(expected.dtype).eps if is_half else FLOAT_TOLERANCE
    return Difference(node, source, worst, float(worst > tolerance), gap.numel(), False, tolerance)
