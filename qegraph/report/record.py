"""`Report`: what became of a graph, as data. How it is worded and tabulated is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["kept", "fused", "gone"]
Role = Literal["int8", "float", "border", "other", "input"]
"""Of a node in a picture: int8 kernel, contraction in floats, quantize or dequantize, anything else, input."""


@dataclass(frozen=True)
class Contraction:
    """One matmul or convolution of the optimised graph.

    name      the emitted node; `source` the value of the input graph it computes.
    gemms     the contractions of the input graph that it stands for; `where`: the modules they are in, e.g. "layer1.0".
    kind      of the source, whichever kernel runs it: linear, conv, matmul; "average pool" or "batch norm" if run as a
              convolution; "linear with int8 weight" (or int4, float16) if the activation is a float.
    int8      an int8 kernel runs it.
    post_ops  what the kernel takes in: "add", and the unary function.
    rules     names of the rules that made it, in the order they apply.
    quantized its operands are dequantized codes, so int8 was to be expected; then `reason` says why it stays float.
    shape     of the result, symbolic dims negative; `dtype` its type.
    cost      µs, as extraction counted it.
    """

    name: str
    source: str
    kind: str
    int8: bool
    post_ops: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    quantized: bool = True
    reason: str = ""
    gemms: tuple[str, ...] = ()
    where: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    cost: float = 0.0


@dataclass(frozen=True)
class Fate:
    """What became of one node of the input graph.

    op      its operator, without namespace and overload.
    status  "kept": the optimised graph calls the same kind of operator for it. "fused": another call computes what it
            led to. "gone": nothing is computed for it.
    into    the nodes of the optimised graph that it is kept as or fused into.
    rules   those that took it away, in the order they apply; empty if it is kept, or gone without one.
    reason  why it is kept, or gone.
    """

    op: str
    status: Status
    into: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        words = {"kept": "kept as", "fused": "fused into", "gone": "gone"}[self.status]
        into = f" {', '.join(self.into)}" if self.into else ""
        by = f" by {', '.join(self.rules)}" if self.rules else ""
        return f"{words}{into}{by}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Drawn:
    """One node of a picture of a graph.

    inputs  names of the nodes it reads; weights and constants are not drawn.
    group   before: the node of the optimised graph that took it in; after: its own name.
    detail  shape and type, and, after, rules.
    cost    µs; 0 before.
    """

    name: str
    op: str
    role: Role
    inputs: tuple[str, ...]
    group: str
    detail: str
    cost: float = 0.0


@dataclass(frozen=True)
class Report:
    """The whole account. `str()` is for people; the first line is the summary.

    left   operator -> the nodes of the optimised graph that still quantize, dequantize or activate in floats.
    fate   node of the input graph -> what became of it: every call, and every one folded into a constant.
    cost, lower_bound, method, largest_cycle  as in `Selection`, in µs. limit  of the budget, if one was reached.
    notes          what is odd about the graph, what of it isn't looked into, and what extraction gave up.
    verified       on what the result was verified; empty if that wasn't asked for.
    before, after  the two graphs, in their order.
    """

    contractions: tuple[Contraction, ...] = ()
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    fate: Mapping[str, Fate] = field(default_factory=dict[str, Fate])
    cost: float = 0.0
    lower_bound: float = 0.0
    method: str = ""
    prices: str = ""
    largest_cycle: int = 0
    notes: tuple[str, ...] = ()
    rounds: int = 0
    limit: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    unchanged: str = ""
    verified: str = ""
    before: tuple[Drawn, ...] = ()
    after: tuple[Drawn, ...] = ()

    @property
    def summary(self) -> str:
        """E.g. "53 conv: 53 int8 (36 with fused post-op), 1 linear: 1 int8; left: 2 dequantize"."""
        if self.unchanged:
            return f"unchanged: {self.unchanged}"
        parts: list[str] = []
        for kind in sorted({each.kind for each in self.contractions}):
            these = [each for each in self.contractions if each.kind == kind]
            int8 = [each for each in these if each.int8]
            fused = sum(bool(each.post_ops) for each in int8)
            parts.append(f"{len(these)} {kind}: {len(int8)} int8" + (f" ({fused} with fused post-op)" if fused else ""))
        left = ", ".join(f"{len(names)} {op}" for op, names in self.left.items()) or "nothing"
        return ", ".join(parts or ["no matmul or convolution"]) + f"; left: {left}"

    @property
    def gap(self) -> float:
        """(cost - lower_bound) / cost: 0 is optimal."""
        return (self.cost - self.lower_bound) / self.cost if self.cost > 0 else 0.0

    def floats(self) -> tuple[Contraction, ...]:
        """Quantized contractions that stay float."""
        return tuple(each for each in self.contractions if each.quantized and not each.int8)

    def __str__(self) -> str:
        from qegraph.report.text import text

        return text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from qegraph.report.html import fragment

        return fragment(self)
