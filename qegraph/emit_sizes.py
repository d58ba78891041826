"""The sizes of an emitted graph: numbers, or nodes that compute them from the sizes of its inputs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from qegraph._torch import computed_size, symbols_of
from qegraph.encode import Encoder
from qegraph.torch_names import aten


class Sizes:
    """inputs  value index -> its placeholder; all of them, before the first size is asked for."""

    def __init__(self, graph: fx.Graph, encoder: Encoder, inputs: Mapping[int, fx.Node]) -> None:
        self._graph, self._encoder, self._inputs = graph, encoder, inputs

    def of(self, dim: int) -> Any:
        """`dim` is a size, or the encoder's number of a symbolic one, which is read off an input that has it, or else
        computed from those that have its symbols; one that can't be is left to `reshape`, as -1.
        """
        if dim >= 0:
            return dim
        places, size = self._places, self._encoder.symbolic[dim]
        if dim in places:
            return self._read(*places[dim])
        numbers = {name: self._encoder.symbols.get(name, 0) for name in symbols_of(size)}
        if not places.keys() >= set(numbers.values()):
            return -1
        return computed_size(size, {name: self._read(*places[number]) for name, number in numbers.items()})

    @functools.cached_property
    def _places(self) -> dict[int, tuple[fx.Node, int | None]]:
        """Symbolic size -> the first input that has it, and the axis; None for one that is the size."""
        found: dict[int, tuple[fx.Node, int | None]] = {}
        for index, node in self._inputs.items():
            fake = self._encoder.program.values[index].fake
            if isinstance(fake, torch.SymInt):
                found.setdefault(self._encoder.dims([fake])[0], (node, None))
            for axis, dim in enumerate(self._encoder.dims(getattr(fake, "shape", ()))):
                found.setdefault(dim, (node, axis))
        return {dim: place for dim, place in found.items() if dim < 0}

    def _read(self, node: fx.Node, axis: int | None) -> fx.Node:
        return node if axis is None else self._graph.call_function(aten.sym_size.int, (node, axis))
