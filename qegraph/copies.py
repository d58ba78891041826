"""Memory of its own for an operand that a kernel writes into, in eager mode and under a compiler.

Inductor takes `clone` out of a graph where it sees no write, and it sees none by `qlinear_pointwise`; where the operand
is a view (as every output of a linear of rank 3 or more is to it) it even calls another kernel, which adds the codes as
plain numbers. What it computes itself is neither.
"""

from __future__ import annotations

import torch

from qegraph import _inductor


def scratch(x: torch.Tensor, channels_last: bool, is_owned: bool) -> torch.Tensor:
    """`x` dense, channels last or contiguous, in memory that nothing else reads; `is_owned`: it is so already."""
    if not torch.compiler.is_compiling():
        return x if is_owned else _copy(x, channels_last)
    if x.dtype.is_floating_point:
        return torch.ops.qegraph.scratch_copy(x, channels_last)
    return torch.bitwise_or(x, 0)  # not a clone, but the same codes


def _copy(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return x.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _fake(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    _inductor.register_copy(torch.ops.qegraph.scratch_copy.default)
    return _copy(x, channels_last)


_LIBRARY = torch.library.Library("qegraph", "FRAGMENT")
_LIBRARY.define("scratch_copy(Tensor x, bool channels_last) -> Tensor")
_LIBRARY.impl("scratch_copy", _copy, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::scratch_copy", _fake, lib=_LIBRARY)
