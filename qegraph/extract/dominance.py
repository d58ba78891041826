"""Drop e-nodes for which a sibling is never worse and preferred on ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from qegraph.extract.problem import Problem


def drop_dominated(problem: Problem, must: Set[int]) -> bool:
    """Drop e-node k if a sibling j has children(j) ⊆ children(k) and (cost, index) below that of k.

    Children in `must` (used by every solution) count as present, unless they share a component with the e-class:
    there they could close a cycle that k does not close. Returns whether anything was dropped.
    """
    changed = False
    component_of = {c: i for i, component in enumerate(problem.components) for c in component}
    for component in problem.components:
        for c in component:
            ks = problem.options[c]
            if len(ks) < 2:
                continue
            here = component_of[c]
            sets = {
                k: frozenset(d for d in problem.children[k] if d not in must or component_of[d] == here) for k in ks
            }
            kept = _undominated(sorted(ks, key=lambda k: (problem.units[k], k)), sets)
            if len(kept) < len(ks):
                problem.options[c] = tuple(sorted(kept))
                changed = True
    return changed


def _undominated(best_first: Sequence[int], sets: dict[int, frozenset[int]]) -> list[int]:
    """Those with no subset before them. Each kept set is filed under its rarest member, so look-ups stay short."""
    if len(best_first) == 2:
        first, second = best_first
        return [first] if sets[first] <= sets[second] else [first, second]
    uses = Counter(d for k in best_first for d in sets[k])
    filed: dict[int, list[frozenset[int]]] = {}
    kept: list[int] = []
    for k in best_first:
        mine = sets[k]
        if any(other <= mine for d in mine for other in filed.get(d, ())):
            continue
        kept.append(k)
        if not mine:
            break  # needs nothing more: every later e-node is dominated
        filed.setdefault(min(mine, key=lambda d: (uses[d], d)), []).append(mine)
    return kept
