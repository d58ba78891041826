"""`qegraph rules coverage`: how often each rule holds in a model, and how often extraction keeps what it made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from qegraph.extract import Selection
from qegraph.freeze import Match
from qegraph.lang.rule import Rule
from qegraph.pricing import price
from qegraph.search import Search, search
from qegraph.workshop.subjects import Subject


@dataclass(frozen=True)
class Firing:
    """matches  how often the rule's left side and guards held; each equality of a rule of several counts.
    kept     of those, how many led to the graph that is emitted: their right side is in it, or what other rules have
             made of their right side.
    """

    matches: int = 0
    kept: int = 0

    def __str__(self) -> str:
        return f"{self.kept}/{self.matches}" if self.matches else "-"


@dataclass(frozen=True)
class Coverage:
    """What each rule did on one model. Rules that never matched are there too."""

    model: str
    firings: Mapping[str, Firing]


def coverage(subjects: Iterable[Subject], rules: Sequence[Rule]) -> Iterator[Coverage]:
    """All rules run together on each subject, under estimated costs at this machine's rates."""
    for subject in subjects:
        found = search(subject.program(), rules)
        selection = found.select(price("estimated", found)[0])
        yield Coverage(subject.name, firings(found, selection))


def firings(found: Search, selection: Selection) -> dict[str, Firing]:
    """By rule, in the order of the search's rules."""
    matches = [(rule.name, match) for rule in found.rules for match in found.freezer.matches(rule)]
    kept = _kept(found, selection, [match for _, match in matches])
    total = Counter(name for name, _ in matches)
    lasting = Counter(name for at, (name, _) in enumerate(matches) if at in kept)
    return {rule.name: Firing(total[rule.name], lasting[rule.name]) for rule in found.rules}


def _kept(found: Search, selection: Selection, matches: Sequence[Match]) -> set[int]:
    """Which matches have led to what is selected: from that backwards, through what kept matches were found at."""
    nodes = found.snapshot.nodes
    makers: defaultdict[int, list[int]] = defaultdict(list)
    made = {index for match in matches for index in match.right}
    stack = list(selection.choice.values())
    kept: set[int] = set()
    for at, match in enumerate(matches):
        for index in match.right:
            if nodes[index].eclass == match.eclass:
                makers[index].append(at)
        if not match.right and _replaced(found, selection, match, made):
            kept.add(at)
            stack.extend(match.left)
    seen: set[int] = set()
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        for at in makers[index]:
            kept.add(at)
            stack.extend(matches[at].left)
    return kept


def _replaced(found: Search, selection: Selection, match: Match, made: Set[int]) -> bool:
    """The right side is a variable, and stands for the left one: another e-node computes the value, one that a rule has
    made or that was another value of the source.
    """
    there = selection.choice.get(match.eclass)
    if there is None or there in match.left:
        return False
    return there in made or len(found.snapshot.sources.get(match.eclass, ())) > 1


def as_text(found: Sequence[Coverage]) -> Iterator[str]:
    """A line for each rule that matched somewhere, kept/matches in a column for each model; which those are, below."""
    names = list(dict.fromkeys(name for each in found for name in each.firings))
    width = max(map(len, names), default=0)
    yield "".join(["".ljust(width), *(str(number).rjust(8) for number in range(1, len(found) + 1))])
    for name in names:
        cells = [str(each.firings.get(name, Firing())) for each in found]
        if any(cell != "-" for cell in cells):
            yield "".join([name.ljust(width), *(cell.rjust(8) for cell in cells)])
    yield ", ".join(f"{number} {each.model}" for number, each in enumerate(found, 1))


def never(found: Sequence[Coverage]) -> list[str]:
    """The rules that matched in none of the models."""
    names = dict.fromkeys(name for each in found for name in each.firings)
    return [name for name in names if not any(each.firings.get(name, Firing()).matches for each in found)]
