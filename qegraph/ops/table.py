"""The op table: `reads` registers how an operator of torch is read, `word` what a word costs and is emitted as."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx

from qegraph.cost import Rates
from qegraph.kernels import Kernels
from qegraph.lang.terms import Tensor
from qegraph.program import Value
from qegraph.snapshot import ENode, Snapshot


class Reading(Protocol):
    """What a reader may ask about the program."""

    def tensor(self, operand: Any) -> Tensor: ...
    def shape(self, operand: Any) -> tuple[int, ...]: ...
    def dtype(self, operand: Any) -> torch.dtype: ...
    def constant(self, operand: Any) -> torch.Tensor | None: ...
    def value(self, operand: Any) -> Value: ...
    def dims(self, sizes: Any) -> tuple[int, ...]: ...
    def fact(self, relation: str, *arguments: Any, value: Any = None) -> None: ...
    def call_id(self, value: Value, part: Value | None = None) -> int: ...


class Emission(Protocol):
    """What an emitter may ask and do. `call` adds a node for the e-class being emitted."""

    snapshot: Snapshot
    kernels: Kernels

    def node(self, eclass: int) -> fx.Node: ...
    def call(self, target: Any, *args: Any) -> fx.Node: ...
    def sizes(self, dims: tuple[int, ...]) -> list[Any]: ...
    def constant(self, eclass: int) -> torch.Tensor: ...
    def operand(self, eclass: int) -> torch.Tensor | None: ...
    def buffer(self, name: str, tensor: torch.Tensor) -> fx.Node: ...
    def packed(self, make: Callable[[], torch.nn.Module], key: Any) -> fx.Node: ...
    def shared(self, eclass: int) -> bool: ...
    def scratch(self, eclass: int) -> bool: ...
    def dense(self, eclass: int, channels_last: bool) -> bool: ...
    def value(self, index: int) -> Value: ...


Reader = Callable[[Reading, Value], Tensor | None]
Cost = Callable[[Snapshot, ENode, Rates], float]
Emitter = Callable[[Emission, ENode], Any]
"""Gives the node, or a plain number or None for words that have no node."""


@dataclass(frozen=True)
class Word:
    """A word of the vocabulary as extraction and emission see it.

    cost    estimated µs of one call at the real shapes and the given rates; inf where this e-node can't be emitted.
    emit    adds the nodes.
    fresh   the result owns its memory, so that a later in-place `sum` may write it once nothing reads it any more.
    """

    name: str
    cost: Cost
    emit: Emitter
    fresh: bool


Meaning = Callable[..., Any]
"""What a word computes, in operators of torch, on tensors or on proxies of a graph: its operands, decoded. Parameters,
kinds, functions and moves are `Data` whose own operands are tensors too; the operand that isn't there is None.
"""

READERS: dict[Any, Reader] = {}
NAMED_READERS: dict[str, Reader] = {}
FIRST_READERS: dict[Any, Reader] = {}
PART_READERS: dict[Any, Reader] = {}
WORDS: dict[str, Word] = {}
MEANINGS: dict[str, Meaning] = {}


def reads(*targets: Any) -> Callable[[Reader], Reader]:
    """Register a reader; it returns None for a use of the operator that is not modelled."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(targets, reader))
        return reader

    return register


def reads_named(*names: str) -> Callable[[Reader], Reader]:
    """The same for operators that exist only once another package is imported: "namespace.name.overload"."""

    def register(reader: Reader) -> Reader:
        NAMED_READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def reader_of(target: Any) -> Reader | None:
    return READERS.get(target) or NAMED_READERS.get(str(target))


def reads_first_of(*targets: Any) -> Callable[[Reader], Reader]:
    """Register a reader of the first result of operators that return several; it is given the value of them all."""

    def register(reader: Reader) -> Reader:
        FIRST_READERS.update(dict.fromkeys(targets, reader))
        return reader

    return register


def reads_parts_of(*targets: Any) -> Callable[[Reader], Reader]:
    """Register a reader of any one result of operators that return several; it is given the value of that one."""

    def register(reader: Reader) -> Reader:
        PART_READERS.update(dict.fromkeys(targets, reader))
        return reader

    return register


@reads(operator.getitem)
def read_item(reading: Reading, value: Value) -> Tensor | None:
    source, index = value.args
    made = reading.value(source)
    if made.target in PART_READERS:
        return PART_READERS[made.target](reading, value)
    reader = FIRST_READERS.get(made.target)
    return reader(reading, made) if reader is not None and index == 0 else None


def word(name: str, cost: Cost, fresh: bool = True) -> Callable[[Emitter], Emitter]:
    """Register cost and emission of a word."""

    def register(emit: Emitter) -> Emitter:
        WORDS[name] = Word(name, cost, emit, fresh)
        return emit

    return register


def means(*names: str) -> Callable[[Meaning], Meaning]:
    """Register what words compute: of constants when a graph is emitted, and what rules are proved against."""

    def register(meaning: Meaning) -> Meaning:
        MEANINGS.update(dict.fromkeys(names, meaning))
        return meaning

    return register


def val(x: Any) -> torch.Tensor:
    """The tensor that an operand of a meaning is, or stands for: dtype and shape may be asked, elements not."""
    return x if isinstance(x, torch.Tensor) else x.node.meta["val"]


def free(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """The cost of what is computed before the graph runs, or not at all."""
    return 0.0


def one_pass(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """The cost of a call that reads its operands and writes its result once."""
    return rates.aten_call + rates.traffic(snapshot, node.eclass, *node.children)


def dense(emission: Emission, eclass: int) -> Any:
    """A vector as the kernels read it: element after element, whatever its strides."""
    if eclass in emission.snapshot.constants:
        value = emission.operand(eclass)
        if value is None or value.is_contiguous():
            return emission.node(eclass)
        return emission.buffer("dense", value.contiguous())
    return emission.call(torch.ops.aten.contiguous.default, emission.node(eclass))


def emit_constant(emission: Emission, node: ENode) -> fx.Node | None:
    """The emission of a word that is always a constant, or the operand that isn't there."""
    value = emission.operand(node.eclass)
    return None if value is None else emission.buffer("constant", value)
