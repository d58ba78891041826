"""Ground terms -> values, by the reference semantics of `qegraph.ops`; or -> the graph of operators that computes them.

A ground term has no variables: a tensor in it is a leaf, by the index of its `Sample`, or a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg
from torch.fx.proxy import GraphAppendingTracer

from qegraph.lang.primitives import PRIMITIVES
from qegraph.lang.terms import Dims, Expr, Tensor
from qegraph.ops import MEANINGS
from qegraph.snapshot import Data

Moves = Mapping[int, Callable[[Any], Any]]
"""What the source's own rearrangements do, by uid."""


class Evaluator:
    """Computes each sub-term once. leaves  index -> what the leaf stands for: a tensor, or a proxy of a graph."""

    def __init__(self, leaves: Mapping[int, Any], moves: Moves) -> None:
        self.leaves, self.moves = leaves, moves
        self.known: dict[str, Any] = {}

    def __call__(self, term: Any) -> Any:
        """A tensor or None for a tensor term; `Data` for parameters, kinds, functions, moves; else a Python value."""
        if not isinstance(term, Expr):
            return term
        key = str(term)
        if key not in self.known:
            self.known[key] = self._compute(term)
        return self.known[key]

    def _compute(self, term: Expr) -> Any:
        assert term.args is not None, f"{term} is not bound"
        if term.head == "Leaf":
            return self.leaves[term.args[0]]
        args = [self(arg) for arg in term.args]
        if term.head in PRIMITIVES:
            return PRIMITIVES[term.head](*args)
        if isinstance(term, Dims):
            return tuple(args)
        if not isinstance(term, Tensor):
            return Data(term.head, tuple(args))
        if term.head == "Moved" and args[0].name == "Rearrange":
            return self.moves[args[0].args[1]](args[1])
        return MEANINGS[term.head](*args)


class _Tracer(GraphAppendingTracer):
    """Computes each node as it is made: `node.meta["val"]`, whose dtype and shape meanings may ask."""

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        node = proxy.node
        values: Any = map_arg(node.args, lambda each: each.meta["val"])
        options: Any = map_arg(node.kwargs, lambda each: each.meta["val"])
        call = getattr(values[0], str(target)) if kind == "call_method" else target
        node.meta["val"] = call(*(values[1:] if kind == "call_method" else values), **options)
        return proxy


def graph_of(terms: Sequence[Expr], leaves: Mapping[int, torch.Tensor], moves: Moves) -> fx.GraphModule:
    """The operators that `terms` are made of, as a graph with a placeholder for each leaf; gives their values."""
    graph = fx.Graph()
    tracer = _Tracer(graph)
    proxies: dict[int, fx.Proxy] = {}
    for index, tensor in leaves.items():
        node = graph.placeholder(f"x{index}")
        node.meta["val"] = tensor
        proxies[index] = fx.Proxy(node, tracer)
    evaluate = Evaluator(proxies, moves)
    outputs = [evaluate(term) for term in terms]
    graph.output(tuple(each.node if isinstance(each, fx.Proxy) else each for each in outputs))
    return fx.GraphModule(torch.nn.Module(), graph)
