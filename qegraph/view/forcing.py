"""What wishes for certain forms mean for costs: what isn't allowed costs infinity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from qegraph.search import Search


def forced(of: Search, costs: Sequence[float], forms: Mapping[int, int]) -> list[float]:
    """`costs` with nothing else allowed for the given e-classes (e-class -> e-node), nor what derives from others.

    A kernel that takes a value in derives from the form it matched; so a contraction forced into floats isn't passed
    over by an int8 kernel that computes only what reads it. What derives is told by the first match of each rule.
    """
    barred = {index for eclass, form in forms.items() for index in of.snapshot.classes[eclass] if index != form}
    left = _derivable(of, barred, _whole(of, forms.values()))
    return [cost if index in left else inf for index, cost in enumerate(costs)]


def _whole(of: Search, forms: Iterable[int]) -> set[int]:
    """The forms, and what the same matches made below them: a right side is there as a whole, or not at all."""
    steps = of.evidence.steps
    found = set(forms)
    stack = [(index, set(steps.get(index, ()))) for index in found]
    while stack:
        index, matches = stack.pop()
        below = [each for child in of.snapshot.nodes[index].children for each in of.snapshot.classes[child]]
        made = {each for each in below if each not in found and not matches.isdisjoint(steps.get(each, ()))}
        found |= made
        stack.extend((each, matches) for each in made)
    return found


def _derivable(of: Search, barred: set[int], wanted: set[int]) -> set[int]:
    """The e-nodes that need none of the barred ones: the least fixpoint, linear in the matches told."""
    evidence = of.evidence
    users: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    missing: dict[tuple[int, int], int] = {}
    for made, steps in evidence.steps.items():
        for at, step in enumerate(steps):
            missing[made, at] = len(step.read)
            for index in step.read:
                users[index].append((made, at))
    known = range(len(of.snapshot.nodes))
    ready = [
        k for k in known if k in wanted or k in evidence.given or not all(s.read for s in evidence.steps.get(k, ()))
    ]
    found: set[int] = set()
    while ready:
        index = ready.pop()
        if index in found or index in barred:
            continue
        found.add(index)
        for made, at in users[index]:
            missing[made, at] -= 1
            if missing[made, at] == 0:
                ready.append(made)
    return found
