"""Operands that several e-nodes share become one: a virtual e-class that needs them all, for nothing.

A block of DenseNet has e-nodes with operands {a}, {a, b}, {a, b, c}, …: every e-node is tied to every value, and the
tables of elimination grow as two to the number of layers. With {a, b} as one operand of {a, b, c}, and so on, each
e-node is tied to two neighbours. The problem stays the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set

from qegraph.extract.problem import Problem

CANDIDATES = 2_000  # sets to compare one with

Operands = tuple[int, ...]  # ascending


def group(problem: Problem, must: Set[int]) -> None:
    """Replace operands by virtual e-classes, numbered after all others, each with one free e-node.

    Only operands that may stay unused, and none of an e-node's own component: so a virtual e-class is on no cycle.
    """
    sets = _operand_sets(problem, must)
    shared = Counter(sets.values())
    parts = _parts(shared)
    wanted = {each for part in parts.values() for each in part}
    wanted |= {each for each, count in shared.items() if count > 1 and len(each) > 2}
    if not wanted:
        return
    number: dict[Operands, int] = {}
    for each in sorted(wanted, key=lambda each: (len(each), each)):
        number[each] = len(problem.options)
        _add(problem, _rewritten(each, parts.get(each, ()), number))
    for k, each in sets.items():
        inside = frozenset(each)
        kept = [d for d in problem.children[k] if d not in inside]
        new = [number[each]] if each in number else _rewritten(each, parts.get(each, ()), number)
        problem.children[k] = (*kept, *new)
    problem.refresh()


def _operand_sets(problem: Problem, must: Set[int]) -> dict[int, Operands]:
    """e-node -> its operands that count, if there are at least two."""
    home = {c: i for i, component in enumerate(problem.components) for c in component}
    found: dict[int, Operands] = {}
    for c, i in home.items():
        for k in problem.options[c]:
            if len(problem.children[k]) > 1:
                operands = tuple(sorted(d for d in problem.children[k] if d not in must and home[d] != i))
                if len(operands) > 1:
                    found[k] = operands
    return found


def _parts(shared: Mapping[Operands, int]) -> dict[Operands, list[Operands]]:
    """For sets that contain others: disjoint ones of them, largest first. Each set is filed under its rarest member."""
    uses = Counter(d for each in shared for d in each)
    filed: defaultdict[int, list[tuple[Operands, frozenset[int]]]] = defaultdict(list)
    found: dict[Operands, list[Operands]] = {}
    for each in sorted(shared, key=lambda each: (len(each), each)):
        left = set(each)
        near = [pair for d in each for pair in filed[d]][:CANDIDATES] if len(each) > 2 else []
        for part, members in sorted(near, key=lambda pair: (-len(pair[0]), pair[0])):
            if members <= left:
                left -= members
                found.setdefault(each, []).append(part)
                if len(left) < 2:
                    break
        filed[min(each, key=lambda d: (uses[d], d))].append((each, frozenset(each)))
    return found


def _rewritten(each: Operands, parts: Iterable[Operands], number: Mapping[Operands, int]) -> list[int]:
    """The set as virtual e-classes and what they leave over."""
    covered = {d for part in parts for d in part}
    return [*(d for d in each if d not in covered), *(number[part] for part in parts)]


def _add(problem: Problem, children: Iterable[int]) -> None:
    problem.options.append((len(problem.children),))
    problem.children.append(tuple(children))
    problem.units.append(0.0)
    problem.weight.append(0.0)
