"""What terms and facts may compute with, beside words: egglog's own functions of numbers, texts and lists."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

PRIMITIVES: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "max": max,
    "min": min,
    "to-f64": float,
    "vec-of": lambda *items: items,
    "vec-empty": tuple,
    "vec-push": lambda items, item: (*items, item),
    "vec-pop": lambda items: items[:-1],
}
"""egglog's primitives that right sides of rules use, in Python: to find again what a match made."""

TESTS = frozenset({"=", "!=", "<", "<=", ">", ">=", "%", "abs", "neg", "not", "pow", "sqrt", "to-i64", "to-string"}) | {
    f"vec-{name}" for name in ("get", "set", "length", "contains", "not-contains", "append", "remove")
}
"""Further ones that facts of guards may use; they are evaluated by egglog alone."""

RESULTS = {"to-f64": "f64", "to-i64": "i64", "vec-length": "i64", "to-string": "String"}
"""Sorts of those whose result doesn't depend on their operands."""
