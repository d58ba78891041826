"""On which inputs a result is verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from qegraph.inputs import Inputs, are_real, flat_inputs, hinted, inputs_of
from qegraph.program import Program

Verify = bool | Sequence[Sequence[Any]]
"""Whether, or the arguments of the calls on which."""

_SPREADS = (1.0, 4.0)
"""Standard deviations of the floats of generated calls: the second saturates what the first doesn't."""


@dataclass(frozen=True)
class Calls:
    """inputs  one list per call, one entry per placeholder. origin: where they come from, in words."""

    inputs: Sequence[Inputs]
    origin: str


def calls_of(verify: Verify, examples: Sequence[Any] | None, graph: fx.Graph, program: Program) -> Calls | None:
    """None if nothing is to be verified; else the calls that are given, the example inputs if they are real tensors,
    or calls made from the metadata of the placeholders.

    Raises ValueError for what is no such argument, CaptureError for arguments that the graph doesn't take.
    """
    if isinstance(verify, bool):
        return _chosen(examples, graph, program) if verify else None
    if not _is_calls(verify):
        raise ValueError(
            "verify must be True, False, or a list with the arguments of each call, as in [(x,), (y,)]; "
            f"got {verify!r:.80}"
        )
    count = f"the {len(verify)} calls given" if len(verify) > 1 else "the call given"
    return Calls([flat_inputs(graph, each) for each in verify], count)


def _is_calls(verify: Any) -> bool:
    return (
        isinstance(verify, (list, tuple)) and bool(verify) and all(isinstance(each, (list, tuple)) for each in verify)
    )


def _chosen(examples: Sequence[Any] | None, graph: fx.Graph, program: Program) -> Calls:
    if examples is not None and are_real(examples):
        return Calls([flat_inputs(graph, examples)], "the example inputs")
    made = [inputs_of(program, seed, spread, hinted) for seed, spread in enumerate(_SPREADS)]
    return Calls(made, f"{len(made)} generated calls")
