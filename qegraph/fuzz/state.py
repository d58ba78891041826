"""What a run of the fuzzer has found so far, in a JSON file from which it goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qegraph.bench.table import Table
from qegraph.errors import QegraphError
from qegraph.files import write_text

_FORMAT = 1


@dataclass
class Found:
    """One finding: the seed of its program, the form it is in, what is wrong, and a script that shows it, shrunk."""

    seed: int
    form: str
    what: str
    script: str


@dataclass
class State:
    """first, next  the seeds run are those from the first to before the next.
    programs   how many that is. decided: for how many every disagreement would have been one (`qegraph.fuzz.truth`).
    undecided  seed -> the disagreement that isn't called one.
    forms      graphs emitted and compared. seconds: of all runs together.
    kinds      kind of op -> how many of it were in programs.
    rules      rule -> in how many programs it made or merged something.
    """

    first: int = 0
    next: int = 0
    programs: int = 0
    decided: int = 0
    forms: int = 0
    seconds: float = 0.0
    findings: list[Found] = field(default_factory=list[Found])
    undecided: dict[str, str] = field(default_factory=dict[str, str])
    kinds: Counter[str] = field(default_factory=Counter[str])
    rules: Counter[str] = field(default_factory=Counter[str])

    def save(self, path: Path) -> None:
        """As a whole: an interrupted run leaves the state before, or this one. Raises OSError."""
        plain = {**vars(self), "findings": [asdict(each) for each in self.findings]}
        text = json.dumps({"format": _FORMAT, **plain}, indent=1)
        write_text(path, text)


def load(path: Path) -> State:
    """Raises QegraphError for a file that isn't one of `State.save`."""
    try:
        read: Any = json.loads(path.read_text())
        if read.pop("format") != _FORMAT:
            raise ValueError("another format")
        findings = [Found(**each) for each in read.pop("findings")]
        kinds, rules = Counter(read.pop("kinds")), Counter(read.pop("rules"))
        return State(**read, findings=findings, kinds=kinds, rules=rules)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise QegraphError(
            f"{path} can't be resumed ({error}); give the state of an earlier run, or a new name"
        ) from None


def tables(state: State, kinds: Sequence[str], rules: Sequence[str]) -> list[Table]:
    """The summary, how often each kind of op was drawn, and in how many programs each rule fired."""
    summary = (
        ("seeds", f"{state.first} to {state.next - 1}"),
        ("programs", str(state.programs)),
        ("of these decided", str(state.decided)),
        ("graphs compared", str(state.forms)),
        ("wrong or crashed", str(len(state.findings))),
        ("disagreements undecided", str(len(state.undecided))),
        ("kinds of op", f"{sum(state.kinds[kind] > 0 for kind in kinds)} of {len(kinds)}"),
        ("rules that fired", f"{sum(state.rules[rule] > 0 for rule in rules)} of {len(rules)}"),
        ("seconds", f"{state.seconds:.0f}"),
    )
    return [
        Table("Fuzz", ("", "all runs"), summary),
        Table("Kinds of op", ("kind", "in programs"), _counts(state.kinds, kinds)),
        Table("Rules", ("rule", "programs it fired in"), _counts(state.rules, rules)),
    ]


def _counts(found: Counter[str], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(found[name])) for name in sorted(names, key=lambda name: (-found[name], name)))
