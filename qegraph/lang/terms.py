"""Typed terms: what rules, readers and the engine exchange. One Python class per egglog sort."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, get_type_hints


class Expr:
    """A term: a variable (`args is None`) or a head applied to arguments. `str()` is its egglog text."""

    sort: ClassVar[str]
    __slots__ = ("args", "head")

    def __init__(self, head: str, args: tuple[Any, ...] | None = None) -> None:
        self.head = head
        self.args = args

    @classmethod
    def of(cls, head: str, *args: Any) -> Self:
        return cls(head, args)

    @property
    def operands(self) -> tuple[Any, ...]:
        """The arguments; a variable has none."""
        return self.args or ()

    @property
    def is_variable(self) -> bool:
        return self.args is None

    def __str__(self) -> str:
        if self.args is None:
            return self.head
        return f"({' '.join([self.head, *map(text_of, self.args)])})"

    __repr__ = __str__


class Tensor(Expr):
    """A value of the program: a tensor, or anything an opaque operator makes."""

    sort = "T"
    __slots__ = ()


class QParams(Expr):
    """How real numbers are stored: quantization parameters, or `real(dtype)` for plain floats."""

    sort = "Q"
    __slots__ = ()


class Kind(Expr):
    """Which contraction a gemm is: linear, or a convolution with its strides, padding, dilation and groups."""

    sort = "K"
    __slots__ = ()


class UnaryFn(Expr):
    """An elementwise function as data: a name and up to two parameters."""

    sort = "F"
    __slots__ = ()


class Move(Expr):
    """A rearrangement: every output element is one of the input elements, whatever they are."""

    sort = "M"
    __slots__ = ()


class Dims(Expr):
    """A list of integers: sizes, strides, a permutation."""

    sort = "Dims"
    __slots__ = ()


class Number(Expr):
    sort = "f64"
    __slots__ = ()


class Integer(Expr):
    sort = "i64"
    __slots__ = ()


class Text(Expr):
    sort = "String"
    __slots__ = ()


class Tensors(Expr):
    """A list of operands of an opaque operator; rules never look inside (it would be a cross product)."""

    sort = "TVec"
    __slots__ = ()


def text_of(arg: Any) -> str:
    """egglog text of an argument of a term."""
    if isinstance(arg, Expr):
        return str(arg)
    if isinstance(arg, str):
        return '"' + arg.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(arg, float):
        return "inf" if arg == math.inf else "-inf" if arg == -math.inf else repr(arg)
    if isinstance(arg, tuple):
        return f"(vec-of {' '.join(map(text_of, arg))})" if arg else "(vec-empty)"
    return str(int(arg))


def subterms(term: Expr) -> Iterator[Expr]:
    """`term` and all terms in it, root first; patterns are small, so recursion is bounded by the rule's own text."""
    yield term
    for arg in term.args or ():
        if isinstance(arg, Expr):
            yield from subterms(arg)


@dataclass(frozen=True, slots=True)
class Constructor:
    """One word of the vocabulary: its egglog name and sorts."""

    name: str
    columns: tuple[str, ...]
    sort: str
    commutative: bool = False

    @property
    def declaration(self) -> str:
        return f"(constructor {self.name} ({' '.join(self.columns)}) {self.sort})"


CONSTRUCTORS: dict[str, Constructor] = {}
"""All words, by egglog name, in the order they are declared."""

P = ParamSpec("P")
R = TypeVar("R", bound=Expr)
_SORT_OF_PYTHON = {int: "i64", float: "f64", str: "String"}


def constructor(name: str, commutative: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a word of the language; its sorts are read off the function's annotations."""

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        hints = get_type_hints(function)
        result = hints.pop("return")
        columns = tuple(_sort(hint) for hint in hints.values())
        CONSTRUCTORS[name] = Constructor(name, columns, result.sort, commutative)

        @wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs:
                raise TypeError(f"{function.__name__}() takes its operands by position")
            if len(args) != len(columns):
                raise TypeError(f"{function.__name__}() takes {len(columns)} operands, got {len(args)}")
            return result(name, args)

        return build

    return declare


def _sort(hint: Any) -> str:
    options = [hint, *getattr(hint, "__args__", ())]
    for option in options:
        if isinstance(option, type) and issubclass(option, Expr):
            return option.sort
    return _SORT_OF_PYTHON[hint]
