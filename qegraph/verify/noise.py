"""By how much roundings move the values of a graph.

A fused graph rounds elsewhere than the given one does. One code that falls on the other side of a tie may be amplified
without bound by what follows, so no fixed tolerance fits the results of a deep graph: they are compared with what noise
of the size of a rounding does to the given graph itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph._torch import storage_key
from qegraph.validate import Difference, Recorder, compare

AMPLIFIED = 4.0
"""Times what noise moved a value by: it is drawn, and needn't have been the worst there is."""

_SHARE = 1e-6
"""Of a tensor's largest magnitude: what kernels that add in another order differ by."""


@dataclass(frozen=True)
class Slack:
    """worst, share  of `Difference`, the most that noise made of them."""

    worst: float = 0.0
    share: float = 0.0

    def grown(self, by: Difference) -> Slack:
        return Slack(max(self.worst, by.worst), max(self.share, by.share))

    def allows(self, found: Difference) -> bool:
        """Beside what the contract allows."""
        if not found.integer:
            return found.worst <= AMPLIFIED * self.worst + found.tolerance
        flips = found.share * found.elements <= AMPLIFIED * self.share * found.elements + max(
            1.0, 1e-4 * found.elements
        )
        return flips and found.worst <= max(1.0, AMPLIFIED * self.worst)


class Noisy(Recorder):
    """Moves every float value that is computed, each element up or down at random."""

    def __init__(self, module: fx.GraphModule, oracle: Mapping[str, torch.Tensor], seed: int) -> None:
        super().__init__(module)
        self.oracle = oracle
        self.moved: dict[str, Difference] = {}
        self.generator = torch.Generator().manual_seed(seed)

    def run_node(self, n: fx.Node) -> Any:
        operands = {storage_key(each) for each in self._operands(n)}
        result = fx.Interpreter.run_node(self, n)
        if n.name not in self.oracle or n.op in ("placeholder", "get_attr"):
            return result
        self.moved[n.name] = compare(n.name, n.name, result, self.oracle[n.name])
        if not result.dtype.is_floating_point or result.dtype.itemsize < 2 or storage_key(result) in operands:
            return result  # a view, or written in place: it has had its noise
        return self._shaken(result)

    def _operands(self, n: fx.Node) -> Iterator[torch.Tensor]:
        return (self.env[each] for each in n.all_input_nodes if isinstance(self.env[each], torch.Tensor))

    def _shaken(self, x: torch.Tensor) -> torch.Tensor:
        if not x.numel():
            return x
        size = x.abs()
        size = size * torch.finfo(x.dtype).eps + _SHARE * size.where(x.isfinite(), 0.0).max()
        signs = torch.randint(0, 2, x.shape, generator=self.generator).to(x.dtype) * 2 - 1
        return torch.empty_like(x).copy_(x + size * signs)
