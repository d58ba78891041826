"""`Options`: what `torch.compile(..., backend="qegraph", options={...})` may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from qegraph.errors import QegraphError, nearest
from qegraph.kernels import Kernels
from qegraph.load_rules import RuleItem
from qegraph.pricing import CostFunction
from qegraph.saturate import Budget

Mode = Literal["default", "tuned"]


@dataclass(frozen=True)
class Options:
    """Of `optimize`, but for `mode`, and kernels="auto": native ones where they can be had.

    mode  "default", or "tuned": compile with each of the settings of Inductor that can make the graph faster, time them
          on the first inputs, and keep the fastest. That takes several times as long.
    """

    rules: Sequence[RuleItem] | None = None
    cost: CostFunction | Literal["estimated"] = "estimated"
    budget: Budget | None = None
    require: Literal["int8"] | None = None
    kernels: Literal["auto"] | Kernels = "auto"
    mode: Mode = "default"


def read(mode: str | None, options: Mapping[str, Any] | None) -> Options:
    """From the arguments of `torch.compile`. Raises QegraphError for an option, or a value, that there isn't."""
    given = dict(options or {})
    if mode is not None:
        given["mode"] = mode
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            raise QegraphError(
                f"option {name!r} is none of backend 'qegraph': {', '.join(known)}{nearest(name, known)}"
            )
    chosen = Options(**given)
    _check("mode", chosen.mode, get_args(Mode))
    _check("require", chosen.require, (None, "int8"))
    _check("kernels", chosen.kernels, ("auto", *get_args(Kernels)))
    if not callable(chosen.cost):
        _check("cost", chosen.cost, ("estimated",), " or a function of (snapshot, e-node)")
    if chosen.budget is not None and not isinstance(chosen.budget, Budget):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QegraphError(f"option budget of backend 'qegraph' must be a qegraph.Budget, got {chosen.budget!r}")
    return chosen


def _check(name: str, value: Any, allowed: Sequence[Any], more: str = "") -> None:
    if value not in allowed:
        words = " or ".join(map(repr, allowed))
        raise QegraphError(f"option {name} of backend 'qegraph' must be {words}{more}, got {value!r}")
