"""`Finding`: something about a rule that its author should change, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qegraph.lang.rule import Rule

Check = Literal["duplicate", "unreachable", "growth", "stale stamp", "proof"]


@dataclass(frozen=True)
class Finding:
    """What a check has found. `str()` is the line that is shown."""

    rule: Rule
    check: Check
    text: str

    def __str__(self) -> str:
        return f"{self.rule.name} at {self.rule.where}: {self.check}: {self.text}"
