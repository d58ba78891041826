"""`qegraph egraph`: a model's saturated e-graph as a file, for other extractors and for `qegraph extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qegraph import zoo
from qegraph.capture import capture
from qegraph.errors import CaptureError
from qegraph.extract import gym
from qegraph.pricing import price
from qegraph.saturate import Budget
from qegraph.search import search


def dump(model: str, out: Path, size: zoo.Size = "full", budget: Budget | None = None) -> int:
    """Saturate a model with all exact rules, write its e-graph with the default costs (µs), and return the exit code.

    model, size  and what is raised, as for `load_model`.
    """
    found = search(capture(load_model(model, size)), budget=budget)
    snapshot, done = found.snapshot, found.saturation
    gym.write(out, snapshot, price("estimated", found)[0])
    print(
        f"{len(snapshot.nodes)} e-nodes in {len(snapshot.classes)} e-classes, {len(snapshot.roots)} roots, after "
        f"{done.rounds} rounds ({f'stopped at {done.limit}' if done.limit else 'fixpoint'}): {out}"
    )
    return 0


def load_model(model: str, size: zoo.Size = "full") -> Any:
    """A name of the zoo, quantized with torchao's default recipe at this `size`; or a `.pt2` file of an exported
    quantized program. Raises QegraphError for an unknown model, CaptureError for a file that can't be read.
    """
    if not model.endswith(".pt2"):
        return zoo.quantize(*zoo.load(model, size))
    try:
        return torch.export.load(model)
    except Exception as error:  # torch raises whatever its archive reader meets
        raise CaptureError(f"{model}: expected an exported program, as torch.export.save writes: {error}") from error
