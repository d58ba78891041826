"""What became of every call of the input graph: kept, fused into which node by which rules, or gone and why.

A value is followed upwards, through the source values that read it, to those that are still computed. If it is one of
them itself, what was chosen for it says what it became. The rules told are those, on the way from the source's terms to
what was chosen, that matched the value; where none of them did, all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from torch import fx

from qegraph.emit import META
from qegraph.evidence import Step
from qegraph.program import Value, operands, operator_name
from qegraph.report.account import Account
from qegraph.report.record import Fate
from qegraph.snapshot import ENode

GEMMS = frozenset(
    {"linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "conv1d", "conv2d", "conv3d", "convolution", "embedding_bag"}
    | {"scaled_dot_product_attention", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
)
"""Operators of an input graph that multiply matrices, by `operator_name`."""

_UNREAD = "no result of the graph depends on it"

_CONTRACTIONS = frozenset({"Gemm", "Matmul", "EmbeddingBag"})


def fates(of: Account) -> Mapping[str, Fate]:
    """Every call of the input graph, by name, in order."""
    return _Fates(of).run()


class _Fates:
    def __init__(self, of: Account) -> None:
        self.of = of
        self.outcomes = _outcomes(of)
        self.served = _served(of)

    def run(self) -> Mapping[str, Fate]:
        return {name: self._fate(name, op) for name, op in self.of.program.calls.items()}

    def _fate(self, name: str, op: str) -> Fate:
        index = self.of.program.source_nodes.get(name)
        if name in self.of.program.unread:
            return Fate(op, "gone", reason=_UNREAD)
        if index is None:
            return Fate(op, "gone", reason="traced anew, without writes in place: no value of it is left")
        value = self.of.program.values[index]
        if value.kind == "constant":
            return Fate(op, "gone", self._readers(index), reason="of constants: computed when the graph was read")
        if op not in (operator_name(value.target), operator_name(value.target) + "_") and value.name != name:
            return Fate(op, "gone", reason=f"returns {value.name} itself")
        if self.of.value_class[index] in self.of.selection.choice:
            return self._computed(value, op)
        return self._passed_over(value, op)

    def _readers(self, index: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for each in self.outcomes[index] for name in self._behind(each)))

    def _behind(self, eclass: int) -> tuple[str, ...]:
        """The nodes that compute an e-class: its own, after those of values the source doesn't have that it reads."""
        found: dict[str, None] = {}
        stack = [(eclass, False)]
        while stack:
            each, is_done = stack.pop()
            if is_done or each not in self.of.emitted:
                found.update(dict.fromkeys(self.served.get(each, ())))
                continue
            stack.append((each, True))
            children = self.of.chosen(each).children
            stack.extend((child, False) for child in children if self._is_new(child))
        return tuple(found)

    def _is_new(self, eclass: int) -> bool:
        return eclass in self.of.emitted and eclass not in self.of.snapshot.sources

    def _computed(self, value: Value, op: str) -> Fate:
        """The value's own e-class is in the result."""
        eclass = self.of.value_class[value.index]
        into = self.served.get(eclass, ())
        node, chosen = self.of.emitted.get(eclass), self.of.chosen(eclass)
        first = self.of.program.values[self.of.snapshot.sources[eclass][0]]
        if node is None:
            if chosen.op == "Leaf":
                return Fate(op, "gone", into, self._rules(eclass, [eclass]), f"equal to {first.name}")
            return Fate(op, "gone", into, self._rules(eclass, [eclass]), "of constants: computed before the graph runs")
        if first is not value:
            rules = self._rules(eclass, [eclass])
            return Fate(op, "fused" if rules else "gone", into, rules, f"computed once, with {first.name}")
        if chosen.index in self.of.evidence.given or _same_call(op, chosen, node):
            return Fate(op, "kept", into, reason=self._why_kept(op, eclass, node))
        return Fate(op, "fused", self._behind(eclass), self._rules(eclass, [eclass]))

    def _passed_over(self, value: Value, op: str) -> Fate:
        """What read the value is computed without it."""
        outcomes = self.outcomes[value.index]
        into = self._readers(value.index)
        if not outcomes:
            return Fate(op, "gone", reason=_UNREAD)
        rules = self._rules(self.of.value_class[value.index], outcomes)
        if not rules:  # an operator of several results, which are computed one by one
            return Fate(op, "kept", into, reason="what reads it is computed as in the source")
        return Fate(op, "fused" if into else "gone", into, rules, "" if into else "what reads it needs no computing")

    def _rules(self, eclass: int, outcomes: Sequence[int]) -> tuple[str, ...]:
        """Those on the way to what was chosen for `outcomes` that matched `eclass`; if none did, all of them."""
        evidence = self.of.evidence
        steps = [step for each in outcomes for step in evidence.history(self.of.selection.choice[each])]
        merges = [step for each in outcomes for step in evidence.merges.get(each, ())]
        found = _matching(steps, eclass) or _matching(merges, eclass) or [step.rule for step in steps]
        return tuple(dict.fromkeys(found))

    # -- why it is kept ------------------------------------------------------------------------------------------------

    def _why_kept(self, op: str, eclass: int, node: fx.Node) -> str:
        if op.startswith("dequantize"):
            return "; ".join(self._why_read(eclass, user) for user in node.users) or "nothing reads it"
        others = self._others(eclass, lambda each: each.op == self.of.chosen(eclass).op)
        if op.startswith("quantize"):
            operand = next(iter(node.all_input_nodes), None)
            whose = f"{operand.name}, {_origin(operand)}" if operand is not None else "a constant"
            return f"stores {whose}; {others}"
        return others

    def _why_read(self, eclass: int, user: fx.Node) -> str:
        if user.op == "output":
            return "a result is in floats"
        made = user.meta.get(META)
        if made is None:
            return f"{user.name} reads it"
        reader = self.of.snapshot.nodes[made["enode"]].eclass
        return f"{user.name} reads floats: {self._others(reader, lambda each: eclass in each.children)}"

    def _others(self, eclass: int, excluded: Callable[[ENode], bool]) -> str:
        """Of the forms of an e-class: whether there are any beside those excluded, made by which rules."""
        nodes = [self.of.snapshot.nodes[index] for index in self.of.snapshot.classes[eclass]]
        others = [each for each in nodes if not excluded(each) and self.of.costs[each.index] < inf]
        if not others:
            return "no rule gives it another form"
        rules = dict.fromkeys(rule for each in others for rule in self.of.evidence.makers.get(each.index, ((),))[0])
        return f"other forms cost more ({', '.join(rules) or 'of an equal value'})"


def _matching(steps: Sequence[Step], eclass: int) -> list[str]:
    return [step.rule for step in steps if eclass in step.eclasses]


def _same_call(op: str, chosen: ENode, node: fx.Node) -> bool:
    """The node does for the result what the operator did for the source."""
    return operator_name(node.target) in (op, op.removesuffix("_")) or (op in GEMMS and chosen.op in _CONTRACTIONS)


def _origin(node: fx.Node) -> str:
    return "an input" if node.op == "placeholder" else f"floats of {operator_name(node.target)}"


def _outcomes(of: Account) -> list[tuple[int, ...]]:
    """Per value the e-classes of the result that it is, or that what reads it leads to. Readers come later."""
    readers: list[list[int]] = [[] for _ in of.program.values]
    for value in of.program.values:
        for index in dict.fromkeys(operands(value)):
            readers[index].append(value.index)
    found: list[tuple[int, ...]] = [()] * len(readers)
    for index in reversed(range(len(found))):
        eclass = of.value_class[index]
        if eclass in of.selection.choice:
            found[index] = (eclass,)
        else:
            found[index] = tuple(dict.fromkeys(each for reader in readers[index] for each in found[reader]))
    return found


def _served(of: Account) -> Mapping[int, tuple[str, ...]]:
    """e-class of the result -> the node that computes it; of one without a node, those it is computed for."""
    found: dict[int, dict[str, None]] = {}
    for eclass in reversed(of.selection.order):
        node = of.emitted.get(eclass)
        if node is not None:
            found[eclass] = {node.name: None}
        for child in of.chosen(eclass).children:
            if child not in of.emitted:
                found.setdefault(child, {}).update(found.get(eclass, {}))
    return {eclass: tuple(names) for eclass, names in found.items()}
