"""`Code`: the compiled code of one graph, as Dynamo calls it."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch

from qegraph.compiling.freeze import Frozen

_version = operator.attrgetter("_version")


class Code:
    """Calls the compiled code while its constants are what they were."""

    def __init__(
        self, compiled: Callable[..., Any], owners: tuple[Any, ...], frozen: Frozen, had_autocast: bool
    ) -> None:
        """had_autocast  the graph was traced under autocast, which must be off for the code, as its casts are in it."""
        self._compiled = _without_autocast(compiled) if had_autocast else compiled
        self._owners = owners
        self._frozen = frozen
        self._watched = [tensor for tensor in frozen.state if not tensor.is_inference()]
        self._versions = sum(map(_version, self._watched))

    def __call__(self, *args: Any) -> Any:
        if len(args) != len(self._frozen.kept):  # of Dynamo's graph before `forget_state`, which a debugger may call
            args = tuple(self._frozen.inputs(args))
        if sum(map(_version, self._watched)) != self._versions:  # none of them ever decreases
            return self._outdated(*args)
        return self._compiled(*args)

    def _outdated(self, *args: Any) -> Any:
        warnings.warn(
            "a parameter or buffer was written in place after it was compiled as a constant: the graph runs uncompiled "
            "from now on, with the new values; call torch.compiler.reset() to have it compiled again",
            stacklevel=2,
        )
        return torch.compiler.disable(self._frozen.module)(*args)


def _without_autocast(compiled: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return compiled(*args)

    return call
