"""The two graphs as pictures show them: weights and constants left out, each node with the group it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from qegraph.emit import META
from qegraph.program import Value, operands, operator_name
from qegraph.report.account import Account, described, dims
from qegraph.report.fates import GEMMS
from qegraph.report.record import Contraction, Drawn, Fate, Role


def before(of: Account, fate: Mapping[str, Fate]) -> tuple[Drawn, ...]:
    """The input graph, as it was read."""
    values = of.program.values
    shown = {value.index for value in values if value.kind != "constant"}
    return tuple(_value(of, values[index], fate, shown) for index in sorted(shown))


def _value(of: Account, value: Value, fate: Mapping[str, Fate], shown: set[int]) -> Drawn:
    op = "input" if value.kind == "input" else operator_name(value.target)
    inputs = [of.program.values[i].name for i in dict.fromkeys(operands(value)) if i in shown]
    became = fate.get(value.name)
    group = became.into[0] if became is not None and became.into else value.name if value.kind == "input" else ""
    told = [described(of.snapshot, of.value_class[value.index]), str(became or "")]
    return Drawn(value.name, op, _role(op), tuple(inputs), group, "\n".join(filter(None, told)))


def after(of: Account, contractions: Mapping[str, Contraction]) -> tuple[Drawn, ...]:
    """The optimised graph."""
    hidden = {node for node in of.module.graph.nodes if _is_hidden(node)}
    return tuple(
        _node(of, node, contractions.get(node.name), lambda each: each not in hidden)
        for node in of.module.graph.nodes
        if node not in hidden
    )


def _is_hidden(node: fx.Node) -> bool:
    return node.op in ("output", "get_attr") or (node.op == "call_module" and META not in node.meta)


def _node(of: Account, node: fx.Node, found: Contraction | None, is_shown: Callable[[fx.Node], bool]) -> Drawn:
    made: Mapping[str, Any] = node.meta.get(META, {})
    op = "input" if node.op == "placeholder" else operator_name(node.target)
    told: list[str] = []
    cost = 0.0
    if made:
        enode = of.snapshot.nodes[made["enode"]]
        last = of.emitted.get(enode.eclass) is node
        cost = of.costs[enode.index] if last else 0.0
        rules = of.evidence.rules(enode.index)
        told = [described(of.snapshot, enode.eclass), ", ".join(rules), f"{cost:.1f} µs" if cost else ""]
    elif isinstance(fake := node.meta.get("val"), torch.Tensor):
        told = [dims([d if type(d) is int else -1 for d in fake.shape])]
    role: Role = _role(op)
    if found is not None:
        op = " + ".join([found.kind, *found.post_ops])
        role = "int8" if found.int8 else "float"
    inputs = tuple(each.name for each in node.all_input_nodes if is_shown(each))
    return Drawn(node.name, op, role, inputs, node.name, "\n".join(filter(None, told)), cost)


def _role(op: str) -> Role:
    if op == "input":
        return "input"
    if op.startswith(("quantize", "dequantize")):
        return "border"
    return "float" if op in GEMMS else "other"
