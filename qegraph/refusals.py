"""What egglog says when it refuses a statement, in the words of rules."""

from __future__ import annotations

import re
from collections.abc import Callable

from qegraph.errors import nearest
from qegraph.lang.primitives import PRIMITIVES, TESTS
from qegraph.lang.relations import RELATIONS
from qegraph.lang.terms import CONSTRUCTORS, SORTS

_KNOWN = (*RELATIONS, *CONSTRUCTORS, *PRIMITIVES, *TESTS)


def _sort(name: str) -> str:
    return next((each.__name__ for each in SORTS if each.sort == name), name)


_MESSAGES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"Unbound function (\S+)", lambda m: f"there is no relation, function or word {m[1]}{nearest(m[1], _KNOWN)}"),
    (r"Unbound symbol (\S+)", lambda m: f"{m[1]} is bound nowhere"),
    (
        r"Variable (\S+) is ungrounded",  # egglog's own name for what is computed, where that is it
        lambda m: f"{m[1].removeprefix('@')} is bound nowhere: no left side and no fact says what it is",
    ),
    (r"Arity mismatch, expected (\d+) args: (.*)", lambda m: f"`{m[2]}` must have {m[1]} arguments"),
    (
        r"Expect expression (.*) to have type (\S+), but get type (\S+)",
        lambda m: f"`{m[1]}` stands where {_sort(m[2])} is expected, and is {_sort(m[3])}",
    ),
    (r"parse error: (.*)", lambda m: f"it can't be read: {m[1]}"),
    (
        r"Illegal merge attempted for function (\S+)",
        lambda m: f"some rule makes two values equal that differ in {m[1]}; leave new rules out one by one to find it",
    ),
)


def in_words(message: str) -> str:
    """What is wrong. Where egglog has tried several ways, in the first of them."""
    for line in message.splitlines():
        for pattern, words in _MESSAGES:
            found = re.search(pattern, line)
            if found:
                return words(found)
    return "it can't be run; the engine's own message is the cause of this error"
