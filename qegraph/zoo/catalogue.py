"""The zoo's catalogue: models by name, built with random weights and lived-in BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qegraph.errors import QegraphError

from . import densenet, llama, mobilenet, resnet, transformer
from .entry import Entry, Inputs, Size

_FAMILIES = (resnet, mobilenet, densenet, transformer, llama)
_ENTRIES: Mapping[str, Entry] = {name: entry for family in _FAMILIES for name, entry in family.MODELS.items()}
_SETTLE_BATCH = 8
_SETTLE_PASSES = 3


def names() -> tuple[str, ...]:
    """All model names, convolution networks first."""
    return tuple(_ENTRIES)


def load(name: str, size: Size = "full", seed: int = 0, **options: Any) -> tuple[nn.Module, Inputs]:
    """The model in eval mode and example inputs (batch 1), a function of the arguments alone.

    `options` override the size's own, e.g. `layers=48` for a transformer, `image=160` for a convolution network.
    The caller's random state is left as it was.
    """
    if name not in _ENTRIES:
        raise QegraphError(f"No zoo model is called {name!r}. There are: {', '.join(names())}.")
    entry = _ENTRIES[name]
    base = entry.options(size)
    unknown = sorted(options.keys() - base.keys())
    if unknown:
        raise QegraphError(f"{name} has no option {', '.join(unknown)}. Options: {', '.join(sorted(base))}.")
    chosen = {**base, **options}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = entry.build(**chosen)
        _settle(model, entry, chosen)
        return model.eval(), entry.inputs(1, chosen)


def _settle(model: nn.Module, entry: Entry, options: Mapping[str, Any]) -> None:
    """Give BatchNorm the statistics of its inputs.

    With the initial mean 0 and variance 1 activations of a deep random network die out, and every observed range,
    hence every scale and zero point, is degenerate. A momentum of None averages the passes.
    """
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.momentum = None
    for _ in range(_SETTLE_PASSES):
        model(*entry.inputs(_SETTLE_BATCH, options))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
