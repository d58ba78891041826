"""What became of the graph, in words: every gemm, and every quantize and dequantize of the input, is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from qegraph.errors import QegraphError
from qegraph.extract import Selection
from qegraph.program import Program
from qegraph.saturate import Saturation
from qegraph.snapshot import ENode, Snapshot

META = "qegraph"


@dataclass(frozen=True)
class Contraction:
    """One matmul or convolution of the optimised graph.

    name      the emitted node; `source` the value of the input graph it computes.
    kind      of the source, whichever kernel runs it: linear, conv, matmul; "average pool" if run as a convolution;
              "linear with int8 weight" (or int4, float16) if the activation is a float.
    int8      an int8 kernel runs it.
    post_ops  what the kernel takes in: "add", and the unary function.
    rules     names of the rules that made it.
    quantized its operands are dequantized codes, so int8 was to be expected; then `reason` says why it stays float.
    """

    name: str
    source: str
    kind: str
    int8: bool
    post_ops: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    quantized: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The whole account. `str()` is for people; the first line is the summary.

    cost, lower_bound, method, largest_cycle, notes  as in `Selection`, in µs. limit  of the budget, if one was reached.
    """

    contractions: tuple[Contraction, ...] = ()
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    fate: Mapping[str, str] = field(default_factory=dict[str, str])
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
        return "\n".join([self.summary, *self._lines()])

    def _lines(self) -> Iterable[str]:
        for each in self.floats():
            yield f"  stays float: {each.source or each.name} ({each.kind}): {each.reason}"
        for op, names in self.left.items():
            yield f"  left {op}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        fused = Counter(
            (each.kind, " + ".join(each.post_ops) or "no post-op") for each in self.contractions if each.int8
        )
        for (kind, post_op), count in sorted(fused.items()):
            yield f"  {count} int8 {kind} with {post_op}"
        if self.method:
            yield (
                f"  {self.cost:.0f} µs {self.prices}; none in the e-graph takes less than {self.lower_bound:.0f} µs: "
                f"gap {self.gap:.2%} ({self.method}, largest cycle {self.largest_cycle})"
            )
            for note in self.notes:
                yield f"  {note}"
            ended = f"stopped at {self.limit}" if self.limit else "fixpoint"
            yield f"  saturated in {self.rounds} rounds ({ended}); " + ", ".join(
                f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items()
            )


def explain(module: fx.GraphModule) -> Report:
    """The report of an optimised module. Raises QegraphError for one that `optimize` didn't make."""
    report = module.meta.get(META)
    if not isinstance(report, Report):
        raise QegraphError("this module was not made by qegraph.optimize, so there is nothing to explain")
    return report


@dataclass(frozen=True)
class Account:
    """What the report is computed from. limit  of the budget, if the search stopped there."""

    program: Program
    snapshot: Snapshot
    selection: Selection
    value_class: Mapping[int, int]
    module: fx.GraphModule
    limit: str = ""


def account(
    of: Account,
    reasons: Mapping[int, str],
    saturation: Saturation,
    prices: str,
    seconds: Mapping[str, float],
) -> Report:
    return Report(
        contractions=contractions(of, reasons),
        left=_left(of.module),
        fate=_fate(of),
        cost=of.selection.cost,
        lower_bound=of.selection.lower_bound,
        method=of.selection.method,
        prices=prices,
        largest_cycle=of.selection.largest_cycle,
        notes=of.selection.notes,
        rounds=saturation.rounds,
        limit=of.limit,
        seconds=seconds,
    )


def float_gemms(snapshot: Snapshot, selection: Selection) -> tuple[int, ...]:
    """E-classes chosen as float contractions although an operand is dequantized codes."""
    return tuple(
        eclass
        for eclass in selection.order
        if snapshot.nodes[selection.choice[eclass]].op in ("Gemm", "Matmul", "EmbeddingBag", "Opaque")
        and reads_codes(snapshot, snapshot.nodes[selection.choice[eclass]])
    )


def reads_codes(snapshot: Snapshot, node: ENode) -> bool:
    """Both operands (of an embedding bag, its rows) are dequantized, possibly rearranged."""
    if node.op == "Opaque":
        return False
    if node.op == "EmbeddingBag":
        return _dequantized(snapshot, node.children[0])
    operands = [arg.number for arg in node.args if hasattr(arg, "number")]
    return _dequantized(snapshot, operands[0]) and _dequantized(snapshot, operands[1])


def _dequantized(snapshot: Snapshot, eclass: int) -> bool:
    seen: set[int] = set()
    stack = [eclass]
    while stack:
        number = stack.pop()
        seen.add(number)
        for node in (snapshot.nodes[i] for i in snapshot.classes[number]):
            if node.op == "Dequantize":
                return True
            if node.op == "Moved" and node.args[1].number not in seen:
                stack.append(node.args[1].number)
    return False


def contractions(of: Account, reasons: Mapping[int, str]) -> tuple[Contraction, ...]:
    """reasons  e-class -> why it stays float; where nothing came near, its kind says why."""
    floats = set(float_gemms(of.snapshot, of.selection))
    convolutions = frozenset(value.name for value in of.program.values if "conv" in str(value.target))
    found: list[Contraction] = []
    for node in of.module.graph.nodes:
        made: dict[str, Any] = node.meta.get(META, {}) if node.op == "call_function" else {}
        op = made.get("op", "")
        if op == "QGemm" and "pointwise" in str(node.target):
            found.append(_int8(of, node, made, convolutions))
        elif any(name in str(node.target) for name in _NARROW):
            kind = next(kind for name, kind in _NARROW.items() if name in str(node.target))
            found.append(Contraction(node.name, made.get("equals") or "", kind, False, quantized=False))
        elif op in ("Gemm", "Matmul", "EmbeddingBag") or _is_opaque_gemm(node):
            source = made["equals"] if made else node.name
            eclass = of.value_class.get(of.program.source_nodes.get(source or "", -1), -1)
            if op != "EmbeddingBag" or eclass in floats:
                reason = reasons.get(eclass) or _OFF[op == "EmbeddingBag"]
                found.append(_float(node, source, op, reason if eclass in floats else ""))
    return tuple(found)


_NARROW = {
    "_weight_int8pack_mm": "linear with int8 weight",
    "_weight_int4pack_mm": "linear with int4 weight",
    "dynamic_fp16": "linear with float16 weight",
}
"""Kernels that read a narrow weight and a float activation."""


def _is_opaque_gemm(node: fx.Node) -> bool:
    return any(name in str(node.target) for name in ("convolution", "conv_transpose", "addmm", "bmm", "aten.mm"))


def _int8(of: Account, node: fx.Node, made: Mapping[str, Any], convolutions: frozenset[str]) -> Contraction:
    binary = "binary" in str(node.target)
    args = node.args
    unary = str(args[-3])
    post_ops = (("add",) if binary else ()) + ((unary,) if unary != "none" else ())
    kind = "conv" if "qconv" in str(node.target) or not convolutions.isdisjoint(made["from"]) else "linear"
    weight = of.selection.choice[of.snapshot.nodes[made["enode"]].args[3].number]
    if of.snapshot.nodes[weight].op == "Filled":
        kind = "average pool"
    return Contraction(node.name, made["equals"] or "", kind, True, post_ops, tuple(made["rules"]))


def _float(node: fx.Node, source: str | None, op: str, reason: str) -> Contraction:
    """A contraction that stays float; `reason` is empty if it was float to begin with."""
    kind = "linear" if "linear" in str(node.target) else "conv" if "conv" in str(node.target) else "matmul"
    kind = "embedding bag" if op == "EmbeddingBag" else kind
    return Contraction(node.name, source or "", kind, False, quantized=bool(reason), reason=reason)


_OFF = ("no int8 kernel for this product: its second operand is not a constant weight",
        "the kernel wants no bag to be empty, so its rule is off by default [embedding-bag-of-codes]")  # fmt: skip
"""Without a rule that came near: the reason for a product, and for an embedding bag."""


_WATCHED = {
    "quantize": ("quantize_per_tensor", "quantize_per_channel"),
    "dequantize": ("dequantize_per_tensor", "dequantize_per_channel"),
    "activation": ("relu", "hardtanh", "clamp", "hardswish", "silu", "gelu", "leaky_relu"),
}


def _name(target: Any) -> str:
    """Without namespace and overload."""
    return str(getattr(target, "__name__", target)).split(".")[0]


def _left(module: fx.GraphModule) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in module.graph.nodes:
        name = _name(node.target) if node.op == "call_function" else ""
        for label, prefixes in _WATCHED.items():
            if name in prefixes:
                found.setdefault(label, []).append(node.name)
    return {label: tuple(found[label]) for label in _WATCHED if label in found}


def _fate(of: Account) -> Mapping[str, str]:
    """Each quantize and dequantize of the input: kept as which node, or absorbed by which."""
    by_source: dict[str, str] = {}
    for node in of.module.graph.nodes:
        made = node.meta.get(META)
        for name in made["from"] if made else ():
            by_source.setdefault(
                name, f"fused into {node.name} by {', '.join(made['rules'])}" if made["rules"] else "kept"
            )
    fate: dict[str, str] = {}
    for value in of.program.values:
        if value.kind == "call" and "quantize_per" in str(value.target):
            fate[value.name] = by_source.get(value.name, "shared with an equal value, or not needed")
    return fate
