"""The egglog facts of guards, read as terms."""

from __future__ import annotations

import functools
import math
from typing import Any

from qegraph.lang.rule import Guard
from qegraph.lang.terms import Expr
from qegraph.lang.trees import Tree, read, written

_INFINITE = {"inf": math.inf, "-inf": -math.inf}


@functools.cache
def facts(guard: Guard) -> tuple[Expr, ...]:
    """All facts of a guard, in order; one string may hold several."""
    return tuple(fact for text in guard.facts for fact in parse(text))


def parse(text: str) -> tuple[Expr, ...]:
    """The terms of egglog text: applications as `Expr`s, symbols as variables, literals as Python values."""
    return tuple(_term(tree) for tree in read(text))


def _term(tree: Tree) -> Any:
    if isinstance(tree, str):
        return _atom(tree)
    head, *args = tree
    return Expr(written(head), tuple(_term(arg) for arg in args))


def _atom(token: str) -> Any:
    if token.startswith('"'):
        return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if token in _INFINITE:
        return _INFINITE[token]
    for convert in (int, float):
        try:
            return convert(token)
        except ValueError:
            continue
    return Expr(token)
