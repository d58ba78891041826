"""An optimised graph through Inductor, with the settings of the default mode or with others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from qegraph import _dynamo, native
from qegraph.compiling.hand_over import HandOver, Settings, hand_over
from qegraph.emit import META
from qegraph.kernels import Kernels


@dataclass(frozen=True)
class Made:
    """A graph, as Inductor was given it, compiled."""

    fast: fx.GraphModule
    given: HandOver
    code: Callable[..., Any]


def compile_default(fast: fx.GraphModule, kernels: Kernels, inputs: Sequence[Any]) -> Made:
    """With Inductor's C++ wrapper around kernels of our own: it calls them directly, and takes no longer to compile.

    Around torch's operators it takes several times as long as the Python wrapper, which also serves graphs that the
    C++ one can't be compiled for, with a warning.
    """
    if kernels == "native":
        try:
            return compile_with(fast, inputs, native.wrapper_settings())
        except Exception as error:  # whatever Inductor raises
            warnings.warn(
                "the graph is compiled with Inductor's Python wrapper, which is right, but calls kernels later: with "
                f"the C++ one there is a {type(error).__name__}: {error}",
                stacklevel=2,
            )
    return compile_with(fast, inputs, {})


def compile_with(fast: fx.GraphModule, inputs: Sequence[Any], settings: Settings) -> Made:
    """With these settings of Inductor, besides those the graph needs."""
    given = hand_over(fast, fast.meta[META])
    return Made(fast, given, _dynamo.compile_graph(given.module, inputs, {**given.settings, **settings}))
