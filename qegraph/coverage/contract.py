"""What a fused graph's outputs may differ by from those of the graph it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qegraph.bench.accuracy import complaint, error

SHARE = 10_000
"""One in so many integer elements may be 1 off, and one in any case: kernels round ties elsewhere."""


def disagreement(wanted: Tensor, found: Tensor, relative: float = 1e-5) -> str | None:
    """Codes within 1 LSB on 0.01 % of the elements (or one), floats within `relative` of the largest; or how not."""
    if (wanted.dtype, wanted.shape) != (found.dtype, found.shape):
        return f"wanted {wanted.dtype} {tuple(wanted.shape)}, got {found.dtype} {tuple(found.shape)}"
    if not wanted.numel():
        return None
    off = (wanted.double() - found.double()).abs().nan_to_num(nan=float("inf"))
    worst = float(off.max())
    if wanted.dtype.is_floating_point:
        limit = relative * float(wanted.double().abs().max())
        return f"off by {worst:.3g}, allowed {limit:.3g}" if worst > limit else None
    differing = int((off > 0).sum())
    if worst > 1 or differing > max(1, off.numel() // SHARE):
        return f"off by {int(worst)} LSB, {differing} of {off.numel()} differ"
    return None


def less_exact(truth: Sequence[Tensor], wanted: Sequence[Tensor], found: Sequence[Tensor]) -> str | None:
    """Why `found`, in half precision, is further from `truth` (float64) than the unfused `wanted` allows."""
    for exact, unfused, fused in zip(truth, wanted, found, strict=True):
        if (unfused.dtype, unfused.shape) != (fused.dtype, fused.shape):
            return disagreement(unfused, fused)
        if not fused.dtype.is_floating_point and disagreement(exact, fused) is None:
            continue
        if fused.numel():
            reason = complaint(error([[fused]], [[exact]]), error([[unfused]], [[exact]]), "the unfused graph")
            if reason:
                return reason
    return None


def changed(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    """One of the tensors is no longer what it was, bit by bit."""
    return not all(torch.equal(old, new) for old, new in zip(before, now, strict=True))
