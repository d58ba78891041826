"""Optimizing what is optimized changes nothing: a result says what it was made under, and is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.pricing import CostFunction, Source, Target
from qegraph.saturate import Budget

_META = "qegraph_settled"
"""Key of `GraphModule.meta`."""


@dataclass(frozen=True)
class Wanted:
    """All that a result depends on but the graph: see `qegraph.optimize`."""

    rules: Sequence[Rule]
    budget: Budget
    cost: CostFunction | Source
    target: Target
    kernels: Kernels
    require: str | None
    threads: int


@dataclass(frozen=True)
class _Settled:
    code: str
    wanted: Wanted

    def __deepcopy__(self, memo: object) -> _Settled:
        """Rules are compared by identity before anything else, and a copy of a graph is the same result."""
        return self


def settle(module: fx.GraphModule, wanted: Wanted) -> None:
    """Note on a result what it was made under. Not under a cost function: it may say something else the next time."""
    if isinstance(wanted.cost, str):
        module.meta[_META] = _Settled(_digest(module), wanted)


def is_settled(module: fx.GraphModule, wanted: Wanted) -> bool:
    """It is a result under the same wishes, and no node of it has changed since."""
    found = module.meta.get(_META)
    return isinstance(found, _Settled) and found.wanted == wanted and found.code == _digest(module)


def _digest(module: fx.GraphModule) -> str:
    """Of the graph as it stands, whether or not the module was recompiled since it was edited."""
    return hashlib.sha256(str(module.graph).encode()).hexdigest()
