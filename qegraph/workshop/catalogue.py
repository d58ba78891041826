"""`qegraph rules list`: every rule with its law, what it needs, and how far it is trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qegraph.lang.rule import Rule
from qegraph.prove.stamps import told


@dataclass(frozen=True)
class Entry:
    """One rule in the catalogue.

    trust   "exact"; "precision-changing": off unless named; "one-way": what is rounded gives way to what is not.
    guards  their names, in order, each once.
    stamp   of its proof; empty if it has none.
    where   file:line, from the current folder if it is below it.
    """

    name: str
    law: str
    trust: str
    guards: tuple[str, ...]
    stamp: str
    where: str


def catalogue(rules: Iterable[Rule]) -> list[Entry]:
    """The entries of these rules, in their order."""
    return [
        Entry(
            rule.name,
            rule.law,
            trust(rule),
            tuple(dict.fromkeys(guard.name for guard in rule.guards)),
            told(rule),
            place(rule.where),
        )
        for rule in rules
    ]


def trust(rule: Rule) -> str:
    """How a rule's two sides are equal, in a word."""
    if not rule.exact:
        return "precision-changing"
    return "one-way" if rule.one_way else "exact"


def place(where: str) -> str:
    """file:line as seen from the current folder."""
    path, _, line = where.rpartition(":")
    here = Path.cwd()
    return f"{Path(path).relative_to(here)}:{line}" if Path(path).is_relative_to(here) else where


def as_text(entries: Sequence[Entry]) -> Iterator[str]:
    """Three lines a rule, at most."""
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        stamp = f"  {entry.stamp}" if entry.stamp else ""
        yield f"{entry.name:{width}}  {entry.trust}  {entry.where}{stamp}"
        yield f"    {entry.law}"
        if entry.guards:
            yield f"    if {', '.join(entry.guards)}"


def as_markdown(entries: Sequence[Entry]) -> Iterator[str]:
    """A table for each file."""
    files: dict[str, list[Entry]] = {}
    for entry in entries:
        files.setdefault(entry.where.rpartition(":")[0], []).append(entry)
    for file, those in files.items():
        yield from (f"## {file}", "", "| rule | law | class | if | proof | line |", "|---|---|---|---|---|---|")
        for each in those:
            line = each.where.rpartition(":")[2]
            cells = (each.name, f"`{each.law}`", each.trust, ", ".join(each.guards), each.stamp, line)
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
