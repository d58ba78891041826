"""Which matches led to what was chosen, and what a form costs that another was chosen over."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from math import inf

from qegraph.errors import QegraphError
from qegraph.extract import Selection
from qegraph.freeze import Match
from qegraph.lang.rule import Rule
from qegraph.search import Search

KERNELS = frozenset(
    {"QGemm", "QBatchNorm", "QBinary", "QEmbeddingBag", "QAttention", "WeightOnly", "HalfLinear", "IntMatmul"}
)
"""Words that are emitted as one kernel over narrow operands."""
_MOST_PRICED = 4
"""Values on which a form is forced, each of which takes an extraction."""
_EVERYWHERE = frozenset({"Leaf", "Nothing", "Scalar"})


class Usage:
    """The matches of a search, and the form chosen from it under `costs` (µs, one per e-node)."""

    def __init__(self, found: Search, costs: Sequence[float], selection: Selection) -> None:
        self.found, self.costs, self.selection = found, costs, selection

    @cached_property
    def _matches(self) -> Sequence[Match]:
        return tuple(match for rule in self.found.rules for match in self.found.freezer.matches(rule))

    @cached_property
    def _serves(self) -> Mapping[int, int]:
        """e-node -> the chosen e-node that rules made of it, directly or through others."""
        makers: defaultdict[int, list[Match]] = defaultdict(list)
        for match in self._matches:
            for index in self._own(match):
                makers[index].append(match)
        serves = {index: index for index in self.selection.choice.values()}
        pending = deque(sorted(serves))
        while pending:
            index = pending.popleft()
            for match in makers[index]:
                for source in match.left:
                    if source not in serves:
                        serves[source] = serves[index]
                        pending.append(source)
        return serves

    def _own(self, match: Match) -> list[int]:
        """The e-nodes that are there because of the match, kernels alone if there are any: the rest serves them."""
        nodes = self.found.snapshot.nodes
        own = [i for i in match.right if i not in match.left and nodes[i].op not in _EVERYWHERE]
        return [i for i in own if nodes[i].op in KERNELS] or own

    def _at(self, rule: Rule, eclass: int) -> list[Match]:
        return [match for match in self._matches if match.rule.name == rule.name and match.eclass == eclass]

    def led_to(self, rule: Rule, eclass: int) -> int | None:
        """The chosen e-node that a match of the rule at the e-class led to, if one did.

        A rule that makes nothing new says that its left side isn't needed: then it led to whatever stands there.
        """
        for match in self._at(rule, eclass):
            own = self._own(match)
            for index in own:
                if index in self._serves:
                    return self._serves[index]
            chosen = self.selection.choice.get(eclass)
            if not own and chosen is not None and chosen not in match.left:
                return chosen
        return None

    def price_with(self, rule: Rule, eclass: int) -> float:
        """The least cost (µs) of the whole graph in which something is made of what the rule made at the e-class.

        That is forced on one value after another, of those the chosen form computes; inf if none is made so.
        """
        own = self._made_of({index for match in self._at(rule, eclass) for index in self._own(match)})
        nodes = self.found.snapshot.nodes
        places = dict.fromkeys(nodes[index].eclass for index in own if nodes[index].eclass in self.selection.choice)
        return min((self._forced(place, own) for place in list(places)[:_MOST_PRICED]), default=inf)

    def _made_of(self, own: set[int]) -> dict[int, None]:
        """`own`, and the e-nodes that matches with one of them on their left sides made, and so on; nearest first."""
        takers: defaultdict[int, list[Match]] = defaultdict(list)
        for match in self._matches:
            for index in match.left:
                takers[index].append(match)
        found = dict.fromkeys(sorted(own))
        pending = deque(found)
        while pending:
            for match in takers[pending.popleft()]:
                new = [index for index in self._own(match) if index not in found]
                found.update(dict.fromkeys(new))
                pending.extend(new)
        return found

    def _forced(self, eclass: int, allowed: Collection[int]) -> float:
        """The least cost with one of the allowed e-nodes at an e-class; inf if doing without the class costs less."""
        costs = list(self.costs)
        for index in self.found.snapshot.classes[eclass]:
            if index not in allowed:
                costs[index] = inf
        try:
            selection = self.found.select(costs)
        except QegraphError:
            return inf
        return selection.cost if selection.choice.get(eclass) in allowed else inf
