"""`Evidence`: which rules made which e-node, and from what; followed back to what the source itself says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Step(NamedTuple):
    """One match of a rule: `read` are the e-nodes of its left sides, `eclasses` the e-classes of their terms."""

    rule: str
    read: tuple[int, ...]
    eclasses: tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """makers  e-node index -> names of the rules that made it, and e-classes of the terms they matched.

    steps   e-node index -> for each of those rules its first match.
    merges  e-class -> for each rule that says its value is one already there (`f(g(x)) = x`), its first match there.
    given   e-nodes that the source itself says.
    """

    makers: Mapping[int, tuple[tuple[str, ...], tuple[int, ...]]]
    steps: Mapping[int, tuple[Step, ...]] = field(default_factory=dict[int, tuple[Step, ...]])
    merges: Mapping[int, tuple[Step, ...]] = field(default_factory=dict[int, tuple[Step, ...]])
    given: frozenset[int] = frozenset()

    def history(self, index: int) -> tuple[Step, ...]:
        """How the source's terms became this e-node: one derivation, first step first; empty for the source's own.

        Where several rules made an e-node, the first of them is told.
        """
        found: list[Step] = []
        seen = set[int]()
        stack = [(index, False)]
        while stack:
            each, is_done = stack.pop()
            steps = self.steps.get(each, ())
            if is_done:
                found.append(steps[0])
            elif each not in seen and each not in self.given and steps:
                seen.add(each)
                stack.append((each, True))
                stack.extend((one, False) for one in reversed(steps[0].read))
        return tuple(found)

    def rules(self, index: int) -> tuple[str, ...]:
        """Names of the rules of the history, each once, the first one first."""
        return tuple(dict.fromkeys(step.rule for step in self.history(index)))
