"""Every matmul and convolution of the optimised graph: which kernel runs it, what it takes in, or why it is float."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from qegraph.emit import META
from qegraph.extract import Selection
from qegraph.kernels import POST_OPS, name_of
from qegraph.program import module_path
from qegraph.report.account import Account
from qegraph.report.fates import GEMMS
from qegraph.report.record import Contraction, Fate
from qegraph.snapshot import ENode, Snapshot


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


def contractions(of: Account, reasons: Mapping[int, str], fate: Mapping[str, Fate]) -> tuple[Contraction, ...]:
    """In the order they run.

    reasons  e-class -> why it stays float; where nothing came near, its kind says why. fate  of the source's nodes.
    """
    floats = set(float_gemms(of.snapshot, of.selection))
    convolutions = frozenset(value.name for value in of.program.values if "conv" in str(value.target))
    replaced: defaultdict[str, list[str]] = defaultdict(list)
    for source, each in fate.items():
        if each.op in GEMMS:
            for name in each.into:
                replaced[name].append(source)
    found: list[Contraction] = []
    for node in of.module.graph.nodes:
        made: dict[str, Any] = node.meta.get(META, {}) if node.op == "call_function" else {}
        each = _contraction(of, node, made, convolutions)
        if each is None:
            continue
        eclass = of.value_class.get(of.program.source_nodes.get(each.source, -1), -1)
        if made.get("op") == "EmbeddingBag" and eclass not in floats:
            continue
        if not each.int8 and each.quantized:
            off = _OFF[made.get("op") == "EmbeddingBag"]
            reason = (reasons.get(eclass) or off) if eclass in floats else ""
            each = replace(each, quantized=bool(reason), reason=reason)
        found.append(_placed(of, each, made, replaced[node.name]))
    return tuple(found)


def _contraction(
    of: Account, node: fx.Node, made: Mapping[str, Any], convolutions: frozenset[str]
) -> Contraction | None:
    """What the node is by itself, without the reason why it may be float; None if it is no contraction."""
    op, target, source = made.get("op", ""), str(node.target), made.get("equals") or ""
    if op == "QGemm" and target.startswith(_KERNELS):
        return _int8(of, node, made, convolutions)
    narrow = next((kind for name, kind in _NARROW.items() if name in target), None)
    if narrow is not None:
        return Contraction(node.name, source, narrow, False, quantized=False)
    if op not in ("Gemm", "Matmul", "EmbeddingBag") and not _is_opaque_gemm(node):
        return None
    kind = "linear" if "linear" in target else "conv" if "conv" in target else "matmul"
    return Contraction(node.name, source, "embedding bag" if op == "EmbeddingBag" else kind, False)


def _placed(of: Account, each: Contraction, made: Mapping[str, Any], gemms: Sequence[str]) -> Contraction:
    """With what the e-graph knows of it: shape, type, cost, rules, and the source's contractions it stands for."""
    if not made:
        return each
    enode = of.snapshot.nodes[made["enode"]]
    values = [of.program.values[of.program.source_nodes[name]] for name in gemms]
    return replace(
        each,
        rules=of.evidence.rules(enode.index),
        gemms=tuple(gemms),
        where=", ".join(filter(None, dict.fromkeys(module_path(value.meta) for value in values))),
        shape=of.snapshot.shape.get(enode.eclass, ()),
        dtype=of.snapshot.dtype.get(enode.eclass, ""),
        cost=of.costs[enode.index],
    )


_KERNELS = ("onednn.qlinear_pointwise", "onednn.qconv", "qegraph.qlinear", "qegraph.qconv")
"""Starts of the names of int8 kernels."""

_NARROW = {
    "_weight_int8pack_mm": "linear with int8 weight",
    "_weight_int4pack_mm": "linear with int4 weight",
    "dynamic_fp16": "linear with float16 weight",
}
"""Kernels that read a narrow weight and a float activation."""


def _is_opaque_gemm(node: fx.Node) -> bool:
    return any(name in str(node.target) for name in ("convolution", "conv_transpose", "addmm", "bmm", "aten.mm"))


def _int8(of: Account, node: fx.Node, made: Mapping[str, Any], convolutions: frozenset[str]) -> Contraction:
    _, _, _, w, *_, qo, f, _ = of.snapshot.nodes[made["enode"]].args
    unary, _ = POST_OPS[name_of(f)]
    post_ops = (("add",) if qo.name != "Absent" else ()) + ((unary,) if unary != "none" else ())
    kind = "conv" if "qconv" in str(node.target) or not convolutions.isdisjoint(made["from"]) else "linear"
    weight = of.selection.choice[w.number]
    if of.snapshot.nodes[weight].op == "Filled":
        kind = "batch norm" if of.snapshot.shape[w.number][2:] == (1, 1) else "average pool"
    return Contraction(node.name, made["equals"] or "", kind, True, post_ops)


_OFF = ("no int8 kernel for this product: its second operand is not a constant weight",
        "the kernel wants no bag to be empty, so its rule is off by default [embedding-bag-of-codes]")  # fmt: skip
"""Without a rule that came near: the reason for a product, and for an embedding bag."""
