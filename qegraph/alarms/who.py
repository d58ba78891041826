"""An e-class in words: which nodes of the source it is, and which rules put something into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qegraph.evidence import Evidence
from qegraph.lang.rule import Rule
from qegraph.program import Program
from qegraph.snapshot import ENode, Snapshot

_MOST = 3
"""Names in one list."""


class Who:
    """Answers for one frozen e-graph."""

    def __init__(self, program: Program, rules: Sequence[Rule], snapshot: Snapshot, evidence: Evidence) -> None:
        self._program, self._snapshot, self._evidence = program, snapshot, evidence
        self._where = {rule.name: rule.where for rule in rules}

    def rule(self, name: str) -> str:
        return f"rule {name} ({self._where[name]})"

    def eclass(self, number: int) -> str:
        """E.g. "node 'relu_3', with what rule r (FILE:LINE) says is equal to it"."""
        names = [self._program.values[index].name for index in self._snapshot.sources.get(number, ())]
        made = (name for index in self._snapshot.classes[number] for name in self.makers(index))
        merged = (step.rule for step in self._evidence.merges.get(number, ()))
        said = self._listed(self.rule(name) for name in dict.fromkeys((*made, *merged)))
        if names:
            nodes = self._listed(map(repr, names))
            return f"{nodes} of the source" + (f", with what {said} says of it" if said else "")
        return f"a value made by {said}" if said else "a value of no node"

    def enode(self, node: ENode) -> str:
        """E.g. "'weight' of the source", or "Cast, made by rule r (FILE:LINE)"."""
        if node.op == "Leaf":
            return f"{self._program.values[node.args[0]].name!r} of the source"
        said = self._listed(map(self.rule, self.makers(node.index)))
        return f"{node.op}, made by {said}" if said else f"{node.op} of the source"

    def merging(self, number: int) -> str:
        """The rules that say the e-class is one that was there."""
        return self._listed(dict.fromkeys(self.rule(step.rule) for step in self._evidence.merges.get(number, ())))

    def makers(self, index: int) -> tuple[str, ...]:
        return self._evidence.makers.get(index, ((), ()))[0]

    @staticmethod
    def _listed(names: Iterable[str]) -> str:
        every = list(names)
        more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
        return " and ".join(every[:_MOST]) + more
