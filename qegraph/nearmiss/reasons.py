"""Why contractions stay float, in a sentence each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qegraph.lang.rule import Rule
from qegraph.lang.terms import subterms
from qegraph.nearmiss.find import Near, nearest
from qegraph.nearmiss.tables import Tables
from qegraph.nearmiss.text import observed

LOWERINGS = {("Gemm", "QGemm"), ("EmbeddingBag", "QEmbeddingBag"), ("Quantize", "QAttention")}
"""Words on the two sides of the rules that choose a kernel: if none holds, their guards say why."""


def reasons(tables: Tables, rules: Sequence[Rule], floats: Iterable[int], limit: str) -> Mapping[int, str]:
    """For the e-classes `floats`, contractions in floats, what the rule that came furthest lacked.

    limit  that stopped the search, if one did. An e-class where no rule's left side is found has no reason.
    """
    lowering = [rule for rule in rules if any(_makes(rule, *words) for words in LOWERINGS)]
    quantized: defaultdict[int, list[int]] = defaultdict(list)
    for node in tables.snapshot.nodes:
        if node.op == "Quantize":
            quantized[node.children[0]].append(node.eclass)
    found: dict[int, str] = {}
    for eclass in floats:
        near = list(_complete(tables, lowering, [eclass])) or list(_complete(tables, lowering, quantized[eclass]))
        reason = _reason(tables, near, f"the search stopped at {limit}" if limit else "")
        if reason:
            found[eclass] = reason
    return found


def _complete(tables: Tables, rules: Sequence[Rule], eclasses: Iterable[int]) -> Iterator[Near]:
    for eclass in eclasses:
        yield from (near for rule in rules if (near := nearest(tables, rule, eclass)).complete)


def _makes(rule: Rule, source: str, kernel: str) -> bool:
    return any(
        each.lhs.head == source and any(term.head == kernel for term in subterms(each.rhs)) for each in rule.equalities
    )


def _reason(tables: Tables, near: Sequence[Near], stopped: str) -> str:
    """The first guard that failed, of the rule that came furthest, and what it saw."""
    if not near:
        return stopped
    best = max(near, key=lambda each: each.held)
    if best.guard is None:
        return f"an int8 kernel fits, and {stopped or 'the cost model finds float cheaper'}"
    return f"{best.guard.reason}: {observed(tables, best)} [{best.rule.name}: {best.guard.name}]"
