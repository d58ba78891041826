"""A graph while it grows: each call is run at once, on real tensors, so that only valid ones get in."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from qegraph.coverage.parts import QP

LARGEST = 1e4
"""Floats beyond it aren't kept: what grows without bound tests float formats, not rules."""
MOST_ELEMENTS = 4096

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Refused(Exception):
    """The call isn't valid, or gives what no program should have; the draft is as it was, but for unread nodes."""


@dataclass(frozen=True)
class Value:
    """A node and what it computes. qp: of codes, how they are to be read."""

    node: fx.Node
    tensor: Tensor
    qp: QP | None = None

    @property
    def is_float(self) -> bool:
        return self.tensor.dtype in FLOATS

    @property
    def rank(self) -> int:
        return self.tensor.dim()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


@dataclass(frozen=True)
class Program:
    """A graph over its own constants and inputs that fit it. kinds: the kinds of op that were asked for, in order."""

    module: fx.GraphModule
    inputs: tuple[Tensor, ...]
    kinds: tuple[str, ...] = ()


@dataclass
class Draft:
    """`rng` decides everything, the numbers in tensors included.

    pool     values that a next op may read.
    weights  dequantized, by shape, for layers to share.
    """

    rng: random.Random
    graph: fx.Graph = field(default_factory=fx.Graph)
    constants: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    inputs: list[Tensor] = field(default_factory=list[Tensor])
    pool: list[Value] = field(default_factory=list[Value])
    weights: dict[tuple[int, ...], Value] = field(default_factory=dict[tuple[int, ...], Value])

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.rng.getrandbits(62))

    # What there is.

    def pick(self, suits: Callable[[Value], bool]) -> Value:
        """A value that suits, late ones more often. Raises Refused if none does."""
        found = [each for each in self.pool if suits(each)]
        if not found:
            raise Refused
        return self.rng.choice(self.rng.choice((found[-1:], found[-4:], found)))

    def floats(self, *ranks: int) -> Value:
        """A float32 value of one of these ranks, or of any."""
        return self.pick(lambda v: v.tensor.dtype == torch.float32 and (not ranks or v.rank in ranks))

    # What is added.

    def keep(self, value: Value) -> Value:
        self.pool.append(value)
        return value

    def input(self, tensor: Tensor) -> Value:
        self.inputs.append(tensor)
        return self.keep(Value(self.graph.placeholder(f"x{len(self.inputs)}"), tensor))

    def constant(self, tensor: Tensor) -> Value:
        """Not in the pool: it is read by the op that it was made for."""
        name = f"c{len(self.constants)}"
        self.constants[name] = tensor
        return Value(self.graph.get_attr(name), tensor)

    def call(self, op: Any, *args: Any, qp: QP | None = None, **kwargs: Any) -> Value:
        """Not in the pool yet: the last of an op's calls is. Raises Refused."""
        node = self.call_many(op, *args, **kwargs)
        result = node.meta["value"]
        if not isinstance(result, Tensor):
            raise Refused
        return Value(node, result, qp)

    def call_many(self, op: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """The node of a call that may give several tensors; `item` takes one out."""
        try:
            result = op(*_tensors(args), **_tensors(kwargs))
            if isinstance(result, Tensor) and not result.numel():
                op(*_shapes(args), **_shapes(kwargs))  # kernels for real values don't check what is empty
        except (RuntimeError, NotImplementedError, IndexError, ValueError, AssertionError) as error:
            raise Refused(str(error)) from None
        if isinstance(result, Tensor) and not _is_sane(result):
            raise Refused
        node = self.graph.call_function(op, _nodes(args), _nodes(kwargs))
        node.meta["value"] = result
        return node

    def item(self, node: fx.Node, index: int) -> Value:
        tensor = node.meta["value"][index]
        return Value(self.graph.call_function(operator.getitem, (node, index)), tensor)

    # Numbers.

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.generator) * scale

    def owns(self, value: Value) -> bool:
        """No input or constant shares its memory, so that it may be written to; nor does it overlap itself."""
        memory = value.tensor.untyped_storage().data_ptr()
        shared = {each.untyped_storage().data_ptr() for each in (*self.inputs, *self.constants.values())}
        overlaps = any(
            stride == 0 and size > 1 for size, stride in zip(value.shape, value.tensor.stride(), strict=True)
        )
        return memory not in shared and not overlaps

    def program(self, outputs: Any, kinds: Sequence[str]) -> Program:
        """Only what the outputs need, and writes, stays."""
        self.graph.output(outputs)
        module = fx.GraphModule(self.constants, self.graph, "Fuzzed")
        for node in module.graph.nodes:
            node.meta.pop("value", None)
        tidy(module)
        return Program(module, tuple(self.inputs), tuple(kinds))


def tidy(module: fx.GraphModule) -> None:
    """Take out what nobody reads; what writes in place stays, as do inputs."""
    module.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or writes(node))
    module.delete_all_unused_submodules()
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers() if name not in read]:
        delattr(module, name)
    module.recompile()


def writes(node: fx.Node) -> bool:
    """It is an operator that writes to its first operand."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_sane(result: Tensor) -> bool:
    if result.numel() > MOST_ELEMENTS:
        return False
    if not result.dtype.is_floating_point or not result.numel():
        return True
    return bool(result.isfinite().all()) and float(result.abs().max()) < LARGEST


def _tensors(args: Any) -> Any:
    return _mapped(args, lambda value: value.tensor)


def _shapes(args: Any) -> Any:
    return _mapped(args, lambda value: value.tensor.to("meta"))


def _nodes(args: Any) -> Any:
    return _mapped(args, lambda value: value.node)


def _mapped(args: Any, change: Callable[[Value], Any]) -> Any:
    if isinstance(args, Value):
        return change(args)
    if isinstance(args, Mapping):
        return {name: _mapped(each, change) for name, each in args.items()}
    if isinstance(args, (list, tuple)):
        return type(args)(_mapped(each, change) for each in args)
    return args
