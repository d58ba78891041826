"""What a variant of the benchmark is made from, and what it is when it is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule

from qegraph import zoo
from qegraph.errors import QegraphError

from .counts import Counts

Runner = Callable[..., object]


class Unavailable(QegraphError):
    """A variant can't be built because something isn't installed: it is left out with this as the note."""


@dataclass(frozen=True)
class Subject:
    """One model under test: the float module, its q/dq graph, example inputs and the seed of the calibration data."""

    model: nn.Module
    quantized: GraphModule
    inputs: zoo.Inputs
    seed: int = 0

    def copy(self) -> GraphModule:
        """The q/dq graph for a variant to change."""
        return deepcopy(self.quantized)

    def fresh(self) -> zoo.Inputs:
        """Inputs for a variant to keep: some lowered graphs write into them."""
        return tuple(each.clone() for each in self.inputs)

    def calibration(self) -> list[zoo.Inputs]:
        """What the q/dq graph's scales were observed on, for variants that quantize the float module themselves."""
        return zoo.draw(self.inputs, zoo.CALIBRATION_BATCHES, self.seed)


@dataclass(frozen=True)
class Built:
    """A variant ready to run.

    counts   of the graph it runs, where there is one to look at.
    seconds  from q/dq graph (or float module) to ready, the first call included where that is when the work is done.
    note     what was chosen while building, if something was.
    """

    run: Runner
    counts: Counts | None
    seconds: float
    note: str | None = None
