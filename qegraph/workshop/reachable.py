"""Rules that can never match: a word on the left that no reader writes and no other rule's right side makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

from qegraph.encode import Encoder
from qegraph.lang.rule import Rule
from qegraph.lang.terms import BUILDERS, CONSTRUCTORS, subterms
from qegraph.ops.table import FIRST_READERS, NAMED_READERS, PART_READERS, READERS
from qegraph.workshop.findings import Finding


def unreachable(rules: Sequence[Rule], among: Sequence[Rule]) -> Iterator[Finding]:
    """Findings for those of `rules` that can't match, whatever graph is read, beside the rules `among`."""
    made = producible(among)
    for rule in rules:
        missing = sorted(_words(each.lhs for each in rule.equalities) - made)
        if missing:
            words = ", ".join(CONSTRUCTORS[name].word for name in missing)
            yield Finding(
                rule,
                "unreachable",
                f"no operator is read as {words}, and no other rule that can match has it on its right",
            )


def producible(rules: Sequence[Rule]) -> frozenset[str]:
    """Egglog names of the words that can stand in an e-graph: those of readers, and what rules make of them."""
    made = read_words()
    waiting = list(rules)
    while True:
        ready = [rule for rule in waiting if _words(each.lhs for each in rule.equalities) <= made]
        if not ready:
            return frozenset(made)
        waiting = [rule for rule in waiting if rule not in ready]
        for rule in ready:
            made |= _words(each.rhs for each in rule.equalities)


def _words(terms: Iterable[Any]) -> set[str]:
    return {part.head for term in terms for part in subterms(term) if part.head in CONSTRUCTORS}


def read_words() -> set[str]:
    """Egglog names of the words that readers write: all that they, and what they call, mention."""
    readers = [*READERS.values(), *NAMED_READERS.values(), *FIRST_READERS.values(), *PART_READERS.values()]
    methods = [each for each in vars(Encoder).values() if isinstance(each, FunctionType)]
    found: set[str] = set()
    seen: set[int] = set()
    stack: list[Any] = [*readers, *methods]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, FunctionType) and item in BUILDERS:
            found.add(BUILDERS[item])
        elif isinstance(item, FunctionType) and item.__module__.startswith("qegraph."):
            stack.extend(_mentioned(item))
        elif isinstance(item, (dict, list, tuple)):
            stack.extend(item.values() if isinstance(item, dict) else item)
    return found


def _mentioned(function: FunctionType) -> Iterator[Any]:
    """What a function's code names: globals, attributes of modules, and what it closes over."""
    names = set(_names(function.__code__))
    known = [function.__globals__[name] for name in names if name in function.__globals__]
    yield from known
    for module in known:
        if isinstance(module, ModuleType):
            yield from (getattr(module, name) for name in names if hasattr(module, name))
    yield from (cell.cell_contents for cell in function.__closure__ or ())


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
