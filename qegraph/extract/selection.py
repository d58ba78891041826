"""`Selection`: one e-node for every e-class the roots need, and how far from optimal it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf
from typing import Literal

from qegraph.snapshot import Snapshot

Method = Literal["elimination", "ilp", "greedy"]


@dataclass(frozen=True)
class Selection:
    """What `extract` chose. Costs are in the unit of the cost function (µs).

    choice         e-class -> index of its e-node, for exactly the e-classes the roots need.
    order          those e-classes, children before parents.
    cost           sum of the costs of the chosen e-nodes, each paid once.
    lower_bound    no selection is cheaper. Equal to `cost` if there are no notes: then it is proven optimal.
    method         "elimination": every part was solved by it. "ilp": integer programming solved or improved those too
                   wide for it. "greedy": some part was too wide, and only a heuristic was at hand.
    largest_cycle  size of the largest strongly connected component of e-classes after pruning (1: no cycles).
    notes          what was given up and why, in words; empty if optimal.
    """

    choice: Mapping[int, int]
    order: tuple[int, ...]
    cost: float
    lower_bound: float
    method: Method
    largest_cycle: int
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """(cost - lower_bound) / cost: 0 is optimal, 0.02: the optimum is at most 2 % cheaper."""
        return (self.cost - self.lower_bound) / self.cost if self.cost > 0 else 0.0


def needed(snapshot: Snapshot, choice: Mapping[int, int]) -> tuple[int, ...]:
    """The e-classes the roots reach through `choice`, children before parents (depth first, operands in order).

    Raises AssertionError on a missing or cyclic choice: a bug of the solver, never of the input.
    """
    order: list[int] = []
    finished: dict[int, bool] = {}  # False: on the path from the root to here
    for root in snapshot.roots:
        stack = [root]
        while stack:
            eclass = stack[-1]
            if eclass in finished:
                stack.pop()
                if not finished[eclass]:
                    finished[eclass] = True
                    order.append(eclass)
                continue
            finished[eclass] = False
            if eclass not in choice:
                raise AssertionError(f"extraction needs e-class {eclass} but chose no e-node for it")
            for child in reversed(snapshot.nodes[choice[eclass]].children):
                if child not in finished:
                    stack.append(child)
                elif not finished[child]:
                    raise AssertionError(f"extraction chose a cycle through e-classes {eclass} and {child}")
    return tuple(order)


def total(cost: Sequence[float], choice: Mapping[int, int]) -> float:
    """Σ cost of the chosen e-nodes, correctly rounded, so independent of the order."""
    result = fsum(cost[index] for index in choice.values())
    if result == inf:
        raise AssertionError("extraction chose an e-node that is not allowed")
    return result
