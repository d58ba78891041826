"""Facts of guards and terms of rules, checked before egglog sees them: known names, their sorts, bound variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qegraph.errors import nearest
from qegraph.lang.primitives import PRIMITIVES, RESULTS, TESTS
from qegraph.lang.relations import RELATIONS
from qegraph.lang.terms import CONSTRUCTORS, sort_named
from qegraph.lang.trees import FactProblem, Tree, read, written


def check(text: str, bound: Mapping[str, str]) -> None:
    """Raises FactProblem for facts, or a term, that egglog would refuse or would take for another question.

    bound  the variables there are -> their sorts, empty where unknown.
    """
    for tree in read(text):
        _sort(tree, bound)


def own(text: str) -> set[str]:
    """Names that the facts bind themselves, by `(= name ...)`; none in a text that can't be read."""
    try:
        trees = read(text)
    except FactProblem:
        return set()
    equations = [tree for tree in trees if isinstance(tree, list) and tree[:1] == ["="]]
    return {item for tree in equations for item in tree[1:] if isinstance(item, str) and not literal(item)}


def literal(token: str) -> str:
    """The sort of a literal; empty for a name."""
    if token.startswith('"'):
        return "String"
    if re.fullmatch(r"-?\d+", token):
        return "i64"
    return "f64" if re.fullmatch(r"-?(inf|NaN|\d+\.\d*([eE][+-]?\d+)?|\d+[eE][+-]?\d+)", token) else ""


def _sort(tree: Tree, variables: Mapping[str, str]) -> str:
    """The sort of a term, empty if it isn't known here; a fact has none."""
    if isinstance(tree, str):
        sort = literal(tree)
        if not sort and tree not in variables:
            raise FactProblem(f"{tree} is bound nowhere{nearest(tree, variables)}")
        return sort or variables[tree]
    head, arguments = next(iter(tree), None), tree[1:]
    if not isinstance(head, str):
        raise FactProblem("a fact begins with a name, as in (constant x)")
    found = [_sort(each, variables) for each in arguments]
    if head in CONSTRUCTORS:
        _fits(head, CONSTRUCTORS[head].columns, found, arguments)
        return CONSTRUCTORS[head].sort
    if head in RELATIONS:
        _fits(head, RELATIONS[head].columns, found, arguments)
        return RELATIONS[head].sort
    if head not in TESTS and head not in PRIMITIVES and head != "N":
        known = (*RELATIONS, *CONSTRUCTORS, *PRIMITIVES, *TESTS)
        raise FactProblem(f"there is no relation, function or word {head}{nearest(head, known)}")
    if head in ("=", "!="):
        _alike(head, found, arguments)
    return RESULTS.get(head, "Dims" if head in ("vec-of", "vec-empty") else "")


def _fits(head: str, columns: tuple[str, ...], found: list[str], arguments: list[Tree]) -> None:
    if len(columns) != len(found):
        wanted = ", ".join(map(sort_named, columns)) or "nothing"
        raise FactProblem(f"({head} ...) takes {len(columns)} arguments ({wanted}), got {len(found)}")
    for at, (column, sort, argument) in enumerate(zip(columns, found, arguments, strict=True), 1):
        if sort and sort != column:
            got = f"{written(argument)} ({sort_named(sort)})"
            raise FactProblem(f"({head} ...): argument {at} must be {sort_named(column)}, got {got}")


def _alike(head: str, found: list[str], arguments: list[Tree]) -> None:
    known = sorted({sort for sort in found if sort})
    if len(known) > 1:
        shown = " and ".join(
            f"{written(each)} ({sort_named(sort)})" for each, sort in zip(arguments, found, strict=True) if sort
        )
        raise FactProblem(f"({head} ...) compares two sorts: {shown}")
