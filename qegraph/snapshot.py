"""`Snapshot`: a saturated e-graph frozen into plain Python, what extraction and the report read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassRef:
    """An operand of an e-node: the e-class with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Data:
    """A decoded attribute (quantization parameters, gemm kind, unary function, move): constructor and arguments."""

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ENode:
    """One e-node. `args` in column order: `ClassRef`, `Data`, tuples of ints, floats, ints or strings.

    `children` are all e-classes that occur in `args`, at any depth, without repeats, in first-seen order.
    """

    index: int
    eclass: int
    op: str
    args: tuple[Any, ...]
    children: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """E-classes are numbered 0..n-1, in an order that depends only on the program and the rules.

    nodes    all e-nodes; `nodes[i].index == i`. A stable order, the program's own first: extraction breaks ties by
             smaller index.
    classes  for each e-class the indices of its e-nodes, ascending.
    roots    e-classes that must be computed (outputs and effects).
    shape    e-class -> dims; symbolic dims are negative ids (see `encode`). Absent for non-tensors.
    dtype    e-class -> name of the torch dtype. Absent for non-tensors.
    constants  e-classes whose value is known when the graph is emitted.
    sources  e-class -> ascending indices of the program values that are equal to it.
    """

    nodes: tuple[ENode, ...]
    classes: tuple[tuple[int, ...], ...]
    roots: tuple[int, ...]
    shape: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    dtype: Mapping[int, str] = field(default_factory=dict[int, str])
    constants: frozenset[int] = frozenset()
    sources: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    @cached_property
    def returned(self) -> frozenset[int]:
        """E-classes whose memory the graph may return: its results, and what they may be views of."""
        found = set[int]()
        stack = [root for root in self.roots if root in self.shape]
        while stack:
            eclass = stack.pop()
            if eclass not in found:
                found.add(eclass)
                views = (self.nodes[i] for i in self.classes[eclass] if self.nodes[i].op in ("Moved", "Opaque"))
                stack.extend(child for node in views for child in node.children)
        return frozenset(found)

    @cached_property
    def readers(self) -> Mapping[int, frozenset[str]]:
        """e-class -> the words by which values of the source read it."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for node in self.nodes:
            if node.eclass in self.sources:
                for child in node.children:
                    found[child].add(node.op)
        return {eclass: frozenset(words) for eclass, words in found.items()}

    @cached_property
    def last_read(self) -> Mapping[int, int]:
        """e-class -> the last source value that reads it, itself, dequantized or as a view; results are read last."""
        last: dict[int, int] = {}
        roots = frozenset(self.roots)
        reading = (node for node in self.nodes if node.eclass in self.sources)
        for node in sorted(reading, key=lambda each: self.sources[each.eclass][0], reverse=True):
            here = self.sources[node.eclass][0]
            end = len(self.nodes) if node.eclass in roots else here
            passes = node.op in ("Dequantize", "Moved")
            for child in node.children:
                latest = max(end, last.get(node.eclass, 0)) if passes else here
                last[child] = max(last.get(child, 0), latest)
        return last
