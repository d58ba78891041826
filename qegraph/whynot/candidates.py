"""Where a node's rules may match: at its own value, or, where that is only passed on, at what reads it."""

from __future__ import annotations

from collections.abc import Sequence

from qegraph.lang.rule import Rule
from qegraph.nearmiss import Near, Tables, nearest

_PASSING = frozenset({"Leaf", "Quantize", "Dequantize", "Moved", "Cast", "Opaque"})
"""Words whose values are only stored another way: kernels are made of what reads them."""
_AWAY = 3
_MOST_PLACES = 24


def places(tables: Tables, eclass: int, rules: Sequence[Rule], anyway: bool) -> list[Near]:
    """How near each rule came, at the value and at what reads it through conversions; the value itself first.

    A rule counts only where its outermost word stands; if that is so nowhere, and `anyway`, it is the value's own.
    """
    found = [
        nearest(tables, rule, place)
        for place in _places(tables, eclass)
        for rule in rules
        if _fits(tables, rule, place)
    ]
    return found or [nearest(tables, rule, eclass) for rule in rules if anyway]


def _fits(tables: Tables, rule: Rule, eclass: int) -> bool:
    words = tables.words(eclass)
    return any(each.lhs.head in words for each in rule.equalities)


def _places(tables: Tables, eclass: int) -> list[int]:
    found = [eclass]
    level = [eclass]
    for _ in range(_AWAY):
        passing = [each for each in level if _PASSING.issuperset(_source_words(tables, each))]
        level = [reader for each in passing for reader in tables.readers.get(each, ()) if reader not in found]
        found += dict.fromkeys(level)
    return found[:_MOST_PLACES]


def _source_words(tables: Tables, eclass: int) -> tuple[str, ...]:
    """The words of a value, without kernels that rules made of it."""
    return tuple(word for word in tables.words(eclass) if not word.startswith("QG"))
