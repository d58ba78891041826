"""How far a variant's outputs are from the q/dq graph run eagerly, and whether qegraph's are far for no reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.utils import _pytree as pytree

from qegraph.zoo import Inputs

FACTOR = 1.5
RELATIVE_FLOOR = 1e-5
"""The share of the oracle's largest output that counts as no error: what float kernels may differ by."""


@dataclass(frozen=True)
class Error:
    """Absolute differences from the oracle over all samples, outputs and elements; `scale` is the oracle's largest."""

    maximum: float
    mean: float
    scale: float

    @property
    def floor(self) -> float:
        return RELATIVE_FLOOR * self.scale


def outputs(call: Callable[..., object], samples: Sequence[Inputs]) -> list[list[torch.Tensor]]:
    """The output tensors for each sample. The variant gets copies: some lowered graphs write into their inputs."""
    found: list[list[torch.Tensor]] = []
    for sample in samples:
        leaves = pytree.tree_leaves(call(*(each.clone() for each in sample)))
        found.append([leaf.detach().clone() for leaf in leaves if isinstance(leaf, torch.Tensor)])
    return found


def error(found: Iterable[Sequence[torch.Tensor]], oracle: Iterable[Sequence[torch.Tensor]]) -> Error:
    """Compare outputs with the oracle's. NaN on one side only is an infinite error."""
    pairs = [pair for ours, theirs in zip(found, oracle, strict=True) for pair in zip(ours, theirs, strict=True)]
    for one, other in pairs:
        if one.shape != other.shape:
            raise ValueError(f"output shape {tuple(one.shape)}, the oracle's is {tuple(other.shape)}")
    wanted = torch.cat([other.double().flatten() for _, other in pairs])
    gap = (torch.cat([one.double().flatten() for one, _ in pairs]) - wanted).abs()
    gap = torch.nan_to_num(gap, nan=float("inf"))
    return Error(float(gap.max()), float(gap.mean()), float(wanted.abs().max()))


def complaint(ours: Error, reference: Error, name: str) -> str | None:
    """Why `ours` is too large, or None: in max or mean over `FACTOR` times the reference's error plus the floor."""
    for label, mine, other in (("max", ours.maximum, reference.maximum), ("mean", ours.mean, reference.mean)):
        limit = FACTOR * other + ours.floor
        if mine > limit:
            return f"{label} error {mine:.3g} is over {limit:.3g} = {FACTOR} x {name}'s {other:.3g} + {ours.floor:.2g}"
    return None
