"""`Entry`: how one zoo model is built, at which sizes, and what its inputs look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Size = Literal["full", "small"]
Inputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    build   builder of the module; takes the keyword options of a size.
    full    options at the published widths and depths.
    small   the same topology, narrower and shallower, for tests.
    inputs  batch size and the options in force -> random inputs.
    """

    build: Callable[..., nn.Module]
    full: Mapping[str, Any]
    small: Mapping[str, Any]
    inputs: Callable[[int, Mapping[str, Any]], Inputs]

    def options(self, size: Size) -> Mapping[str, Any]:
        return self.full if size == "full" else self.small


def images(batch: int, options: Mapping[str, Any]) -> Inputs:
    """One float NCHW image batch, roughly normalised as ImageNet pictures are."""
    side = options["image"]
    return (torch.randn(batch, 3, side, side),)


def tokens(batch: int, options: Mapping[str, Any]) -> Inputs:
    """One int64 batch of token numbers, (batch, length)."""
    return (torch.randint(options["vocabulary"], (batch, options["length"])),)
