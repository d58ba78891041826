"""The egglog facts of guards, read as terms."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

from qegraph.lang.rule import Guard
from qegraph.lang.terms import Expr

_TOKEN = re.compile(r'[()]|"(?:[^"\\]|\\.)*"|[^\s()"]+')
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


@functools.cache
def facts(guard: Guard) -> tuple[Expr, ...]:
    """All facts of a guard, in order; one string may hold several."""
    return tuple(fact for text in guard.facts for fact in parse(text))


def parse(text: str) -> tuple[Expr, ...]:
    """The terms of egglog text: applications as `Expr`s, symbols as variables, literals as Python values."""
    open_terms: list[list[Any]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            open_terms.append([])
        elif token == ")":
            head, *args = open_terms.pop()
            open_terms[-1].append(Expr(head.head, tuple(args)))
        else:
            open_terms[-1].append(_atom(token))
    return tuple(open_terms[0])


def _atom(token: str) -> Any:
    if token.startswith('"'):
        return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if token in _INFINITE:
        return _INFINITE[token]
    for read in (int, float):
        try:
            return read(token)
        except ValueError:
            continue
    return Expr(token)
