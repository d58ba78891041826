"""Inputs and constants of samples, and the values they are given: plain, extreme, midway between codes, scattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from qegraph.facts import RANGES
from qegraph.torch_names import dtype_of

Step = tuple[float, int]
"""A scale and its zero point."""


class Draw(StrEnum):
    """Kinds of values. ties: floats midway between two codes, codes next to a zero point. layout: plain ones, not
    dense, or channels last.
    """

    PLAIN = "plain"
    EXTREME = "extreme"
    TIES = "ties"
    LAYOUT = "layout"


@dataclass(frozen=True)
class Fill:
    """What a leaf holds. floats; positive floats; codes of its dtype; zeros; fixed: what it was made with, always."""

    what: str
    scale: float = 1.0


@dataclass(frozen=True)
class Leaf:
    index: int
    tensor: torch.Tensor = field(compare=False)
    constant: bool
    fill: Fill

    def drawn(self, draw: Draw, steps: Sequence[Step], generator: torch.Generator) -> torch.Tensor:
        """New values for an input, for a constant its own. steps  of the quantizers near it, for ties."""
        if draw is Draw.PLAIN or self.constant or self.fill.what == "fixed":
            return self.tensor
        shape = tuple(self.tensor.shape)
        new = values(shape, self.tensor.dtype, self.fill, generator, draw, steps)
        return scattered(new) if draw is Draw.LAYOUT else new


def made(
    index: int, shape: tuple[int, ...], dtype: str, constant: bool, fill: Fill, generator: torch.Generator, draw: Draw
) -> Leaf:
    return Leaf(index, values(shape, dtype_of(dtype), fill, generator, draw), constant, fill)


def values(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    fill: Fill,
    generator: torch.Generator,
    draw: Draw = Draw.PLAIN,
    steps: Sequence[Step] = (),
) -> torch.Tensor:
    """A tensor of this kind. Codes take the whole range of their dtype, whatever their parameters say."""
    if fill.what == "zeros":
        return torch.zeros(shape, dtype=dtype)
    if fill.what == "positive":
        return (torch.rand(shape, generator=generator) * 2 + 0.05).mul_(fill.scale).to(dtype)
    if dtype.is_floating_point and dtype.itemsize > 1:
        return _floats(shape, fill.scale, generator, draw, steps).to(dtype)
    if not dtype.is_floating_point:
        low, high = RANGES.get(str(dtype).removeprefix("torch."), (-1000, 1000))
        codes = torch.randint(low, high + 1, shape, generator=generator)
        if draw is Draw.TIES and steps:
            zero = steps[int(torch.randint(len(steps), (), generator=generator))][1]
            codes = (torch.randint(-1, 2, shape, generator=generator) + zero).clamp(low, high)
        if draw is Draw.EXTREME:
            codes = _extreme(shape, low, high, generator)
        return codes.to(dtype)
    return (torch.randn(shape, generator=generator) * 3).to(dtype)  # float8


def _extreme(shape: tuple[int, ...], low: int, high: int, generator: torch.Generator) -> torch.Tensor:
    """Lowest and highest codes: a third of the rows all lowest, a third all highest, the others mixed."""
    share = torch.randint(3, (*shape[:-1], 1) if shape else (), generator=generator) / 2
    return torch.where(torch.rand(shape, generator=generator) < share, low, high)


def _floats(
    shape: tuple[int, ...], scale: float, generator: torch.Generator, draw: Draw, steps: Sequence[Step]
) -> torch.Tensor:
    plain = torch.randn(shape, generator=generator) * scale
    if draw is Draw.EXTREME:
        return plain * 1000.0
    if draw is Draw.TIES and steps:
        step = steps[int(torch.randint(len(steps), (), generator=generator))][0]
        return (torch.randint(-40, 40, shape, generator=generator) + 0.5) * step
    return plain


def scattered(x: torch.Tensor) -> torch.Tensor:
    """The same values with other strides: channels last, transposed, or every second element of a larger block."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if x.dim() >= 2:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    return torch.stack([x, x], -1)[..., 0]
