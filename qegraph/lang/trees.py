"""egglog text as nested lists, and back."""

from __future__ import annotations

import re

Tree = str | list["Tree"]

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[()]|[^\s()"]+|"')


class FactProblem(Exception):
    """What is wrong with a fact, in words."""


def read(text: str) -> list[Tree]:
    """The facts in `text`, as nested lists. Raises FactProblem where brackets or quotes don't match."""
    stack: list[list[Tree]] = [[]]
    for token in _TOKEN.findall(text):
        if token == '"':
            raise FactProblem("a text has no closing quote")
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise FactProblem("there is a ) too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) > 1:
        raise FactProblem("a ) is missing")
    return stack[0]


def written(tree: Tree) -> str:
    """The text of a term."""
    return tree if isinstance(tree, str) else f"({' '.join(map(written, tree))})"
