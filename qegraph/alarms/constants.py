"""Constants that are called equal are computed and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from qegraph.alarms.who import Who
from qegraph.errors import ConflictError
from qegraph.evidence import Evidence
from qegraph.lang.rule import Rule
from qegraph.ops import MEANINGS
from qegraph.program import Program
from qegraph.snapshot import ClassRef, Data, ENode, Snapshot

RELATIVE = 1e-5
"""Of the largest magnitude: what the numeric contract grants a fused operator; of half precision, two roundings."""


def disagreeing_constants(
    program: Program, rules: Sequence[Rule], snapshot: Snapshot, evidence: Evidence
) -> ConflictError | None:
    """The first e-class that holds two constants, with the rules and nodes they are from; None if there is none."""
    values = _Values(program.constants, {value.index: value.target for value in program.values}, snapshot)
    for eclass in sorted(snapshot.constants):
        known = [(index, value) for index in snapshot.classes[eclass] if (value := values.of(index)) is not None]
        for index, value in known[1:]:
            if reason := _differ(known[0][1], value):
                who = Who(program, rules, snapshot, evidence)
                one, other = (who.enode(snapshot.nodes[each]) for each in (known[0][0], index))
                merging = who.merging(eclass)
                return ConflictError(
                    f"two constants are called equal, {one} and {other}{f', by {merging}' if merging else ''}, but "
                    f"{reason}; one of these rules is wrong: `qegraph rules check NAME` looks for an instance",
                    "constant",
                )
    return None


def _differ(one: torch.Tensor, other: torch.Tensor) -> str:
    """How two constants differ by more than roundings; empty if they don't."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"one is {one.dtype} of shape {list(one.shape)}, the other {other.dtype} of {list(other.shape)}"
    if not one.numel():
        return ""
    unit = max(RELATIVE, 2 * torch.finfo(one.dtype).eps) if one.dtype.is_floating_point else 0.0
    first, second = one.double(), other.double()
    off = float((first - second).abs().nan_to_num(nan=0.0).max())
    limit = unit * float(first.abs().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).max())
    return f"they are up to {off:.3g} apart" if off > limit else ""


class _Values:
    """What e-nodes of constants compute, each looked at once; None for what can't be computed here."""

    def __init__(self, constants: Mapping[str, torch.Tensor], names: Mapping[int, Any], snapshot: Snapshot) -> None:
        self._constants, self._names, self._snapshot = constants, names, snapshot
        self._known: dict[int, torch.Tensor | None] = {}

    def of(self, index: int) -> torch.Tensor | None:
        if index not in self._known:
            self._known[index] = None  # while it is computed: a term that holds itself says nothing
            self._known[index] = self._computed(self._snapshot.nodes[index])
        return self._known[index]

    def _computed(self, node: ENode) -> torch.Tensor | None:
        if node.op == "Leaf":
            constant = self._constants.get(self._names[node.args[0]])
            return None if constant is None else constant.detach()
        is_call = node.op == "Moved" and node.args[0].name == "Rearrange"
        is_symbolic = any(size < 0 for size in self._snapshot.shape.get(node.eclass, ()))
        if node.op not in MEANINGS or is_call or is_symbolic or not self._snapshot.constants.issuperset(node.children):
            return None
        args = list(map(self._decoded, node.args))
        if any(isinstance(each, _Unknown) for each in args):
            return None
        with torch.no_grad():
            value = MEANINGS[node.op](*args)
        return value if isinstance(value, torch.Tensor) else None

    def _decoded(self, arg: Any) -> Any:
        if isinstance(arg, ClassRef):
            return self._first(arg.number)
        if not isinstance(arg, Data):
            return arg
        args = tuple(map(self._decoded, arg.args))
        return _Unknown() if any(isinstance(each, _Unknown) for each in args) else Data(arg.name, args)

    def _first(self, eclass: int) -> Any:
        members = self._snapshot.classes[eclass]
        if any(self._snapshot.nodes[index].op == "Nothing" for index in members):
            return None
        return next((value for index in members if (value := self.of(index)) is not None), _Unknown())


class _Unknown:
    """An operand whose value isn't known."""
