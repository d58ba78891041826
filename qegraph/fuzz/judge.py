"""Whether outputs are those of a program; see `qegraph.fuzz.truth` for the argument."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qegraph.coverage.contract import disagreement

from .truth import Truth

RELATIVE = 1e-5
"""Of the largest element: what the numeric contract grants float32 outputs."""
AMPLIFIED = 4.0
"""Times what the noise moved an output by: it is drawn, and needn't have been the worst there is."""


def disagrees(truth: Truth, oracle: Sequence[Tensor], found: Sequence[Tensor]) -> str | None:
    """The first output that isn't right, and how.

    oracle  the outputs of the program as torch runs it: dtypes and shapes are theirs, and what they have is right.
    """
    if len(found) != len(oracle):
        return f"{len(found)} outputs instead of {len(oracle)}"
    for at, (wanted, given) in enumerate(zip(oracle, found, strict=True)):
        if reason := _disagrees(truth, at, wanted, given):
            return f"output {at}: {reason}"
    return None


def _disagrees(truth: Truth, at: int, wanted: Tensor, given: Tensor) -> str | None:
    if (wanted.dtype, wanted.shape) != (given.dtype, given.shape):
        return disagreement(wanted, given)
    exact, moved = truth.outputs[at], truth.moved[at]
    if not wanted.dtype.is_floating_point:
        return _codes(exact, moved, given)
    if not wanted.numel():
        return None
    off = (exact.double() - given.double()).abs().nan_to_num(nan=float("inf"))
    unit = max(RELATIVE, torch.finfo(wanted.dtype).eps / 2)
    limit = AMPLIFIED * float(moved.max()) + unit * float(exact.double().abs().max())
    worst = float(off.max())
    return f"off by {worst:.3g}, allowed {limit:.3g}" if worst > limit else None


def _codes(exact: Tensor, moved: Tensor, given: Tensor) -> str | None:
    """Those the noise moves may be off by as much; of the others, those of the contract by one."""
    settled = moved == 0
    exact, given, slack = exact.double(), given.double(), moved + 1
    if bool(((exact - given).abs() > slack)[~settled].any()):
        return f"codes that roundings move by up to {int(moved.max())} are off by more"
    return disagreement(exact[settled].int(), given[settled].int())
