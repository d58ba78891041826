"""`WhyNot`: the answer, and its text of at most eight lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf
from typing import Literal

Verdict = Literal[
    "in use", "not chosen", "off by default", "guard fails", "structure differs", "search stopped", "unchanged"
]
_MAX_ALSO = 3


@dataclass(frozen=True)
class WhyNot:
    """What became of `rule` at `node`.

    at        the value whose form the rule would change: the node, or what reads it.
    matched   places of the rule's left side that fit, and how many it has; `mismatch` the first one that doesn't.
    guard     name of the first guard that fails; `reason` why it is there, `observed` what it saw, `fix` what to do.
    cause     where the structure differs: what kept the expected word from being there, if a rule makes it.
    made      if in use: what the rule led to.
    costs     if another form was chosen: µs of the whole graph as chosen, and of the cheapest one with the rule in it;
              inf if no form that can be emitted has it.
    note      what else is to be known of the rule or of the search.
    also      other rules for the same value, the nearest first, and how far they came.
    """

    node: str
    rule: str = ""
    law: str = ""
    verdict: Verdict = "structure differs"
    at: str = ""
    matched: tuple[int, int] = (0, 0)
    mismatch: str = ""
    guard: str = ""
    reason: str = ""
    observed: str = ""
    fix: str = ""
    cause: WhyNot | None = None
    made: str = ""
    costs: tuple[float, float] | None = None
    note: str = ""
    also: tuple[str, ...] = ()

    @property
    def root(self) -> WhyNot:
        """The answer at the end of the chain of causes."""
        return self.cause.root if self.cause is not None else self

    @property
    def short(self) -> str:
        """Rule and verdict."""
        what = f"needs {self.guard}" if self.verdict == "guard fails" else self.verdict
        return f"{self.rule} {what}" if self.rule else what

    def __str__(self) -> str:
        return "\n".join([self._headline(), *(f"  {label:10}{text}" for label, text in self._lines() if text)])

    __repr__ = __str__

    def _headline(self) -> str:
        place = self.node if self.at in ("", self.node) else f"{self.node}, read by {self.at}"
        return f"{place}: {self.short}" + (f" ({self.note})" if self.note else "")

    def _lines(self) -> Iterator[tuple[str, str]]:
        last = self.root
        yield "law", self.law
        if self.size:
            yield (
                "matched",
                f"{self.matched[0]} of {self.size} places" + (f"; {self.mismatch}" if self.mismatch else ""),
            )
        if last is not self:
            yield "because", f"at {last.at}: {last.short}" + (f"; {last.mismatch}" if last.mismatch else "")
        yield "needed", last.reason
        yield "observed", last.observed
        yield "in use", self.made
        if self.costs is not None:
            chosen, other = self.costs
            with_it = "no form that can be emitted has it" if isinf(other) else f"with it {other:.2f} µs"
            yield "costs", f"as chosen {chosen:.2f} µs, {with_it}"
        yield "fix", last.fix
        yield "also", "; ".join(self.also[:_MAX_ALSO])

    @property
    def size(self) -> int:
        """Places of the rule's left side."""
        return self.matched[1]
