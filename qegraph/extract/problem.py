"""`Problem`: what is left of a `Snapshot` while it is being solved."""

from __future__ import annotations

from dataclasses import dataclass, field

from qegraph.extract.graph import strong_components

TIE = 2.0**-18
"""Weight, in units, of one step down the list of e-nodes of a class: decides among solutions of equal cost."""


@dataclass
class Problem:
    """Minimise the weight of the chosen e-nodes. Lists are indexed by e-class or e-node number of the snapshot.

    roots       e-classes that must be chosen and are not free.
    options     per e-class the e-nodes still possible, ascending; empty if the e-class is out of the game.
    children    per e-node the e-classes it needs, without the free ones.
    units       per e-node its cost in whole units (see `units`).
    weight      per e-node `units` plus a tie-breaker that prefers smaller indices.
    free        e-class -> e-node for those that cost nothing in total.
    successors  per e-class the children of all its options (set by `refresh`).
    components  strongly connected components of `successors`, children first (set by `refresh`).
    """

    roots: tuple[int, ...]
    options: list[tuple[int, ...]]
    children: list[tuple[int, ...]]
    units: list[float]
    weight: list[float] = field(default_factory=list[float])
    free: dict[int, int] = field(default_factory=dict[int, int])
    successors: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    components: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])

    def refresh(self) -> None:
        """Recompute `successors` and `components`; forget the options of e-classes no root can reach."""
        self.successors = [tuple(dict.fromkeys(d for k in ks for d in self.children[k])) for ks in self.options]
        self.components = strong_components(self.roots, self.successors)
        reached = {c for component in self.components for c in component}
        self.options = [ks if c in reached else () for c, ks in enumerate(self.options)]

    def weigh(self) -> None:
        """Set `weight`. The tie-breakers of one solution add up to less than one unit."""
        limit = max(1, int(0.5 / TIE) // max(1, len(self.options)))
        self.weight = list(self.units)
        for ks in self.options:
            for position, k in enumerate(ks):
                self.weight[k] += TIE * min(position, limit)
