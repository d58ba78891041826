"""Typed terms: what rules, readers and the engine exchange. One Python class per egglog sort."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, get_type_hints

from qegraph.errors import WordError
from qegraph.lang.operators import Refusing


class Expr(Refusing):
    """A term: a variable (`args is None`) or a head applied to arguments. `str()` is its egglog text."""

    sort: ClassVar[str]
    __slots__ = ("_text", "args", "head")

    def __init__(self, head: str, args: tuple[Any, ...] | None = None) -> None:
        self.head = head
        self.args = args
        self._text = head if args is None else ""

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
        if not self._text:
            self._text = f"({' '.join([self.head, *map(text_of, self.operands)])})"
        return self._text

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
    """One word of the vocabulary: its egglog name and sorts; the name of its function and of that one's operands."""

    name: str
    columns: tuple[str, ...]
    sort: str
    commutative: bool = False
    word: str = ""
    operands: tuple[str, ...] = ()

    @property
    def declaration(self) -> str:
        return f"(constructor {self.name} ({' '.join(self.columns)}) {self.sort})"


CONSTRUCTORS: dict[str, Constructor] = {}
"""All words, by egglog name, in the order they are declared."""

BUILDERS: dict[Any, str] = {}
"""The functions that build them -> egglog name."""

P = ParamSpec("P")
R = TypeVar("R", bound=Expr)
SORTS: tuple[type[Expr], ...] = (Tensor, QParams, Kind, UnaryFn, Move, Dims, Number, Integer, Text, Tensors)
SORT_OF_PYTHON: dict[Any, type[Expr]] = {int: Integer, float: Number, str: Text, tuple: Dims}
_PLAIN: dict[str, type] = {each.sort: plain for plain, each in SORT_OF_PYTHON.items()}


def constructor(name: str, commutative: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a word of the language; its sorts are read off the function's annotations.

    The word raises WordError for operands of another number or sort.
    """

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        hints = get_type_hints(function)
        result = hints.pop("return")
        columns = tuple(_sort(hint).sort for hint in hints.values())
        made = Constructor(name, columns, result.sort, commutative, function.__name__, tuple(hints))
        CONSTRUCTORS[name] = made
        accepted = tuple(_accepted(_sort(hint)) for hint in hints.values())

        @wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs or len(args) != len(columns):
                raise WordError(_miscounted(made, args, kwargs))
            for at, (arg, types) in enumerate(zip(args, accepted, strict=True)):
                if not isinstance(arg, types) or arg is True or arg is False:
                    raise WordError(_misplaced(made, at, arg))
            return result(name, args)

        BUILDERS[build] = name
        return build

    return declare


def _sort(hint: Any) -> type[Expr]:
    options = [hint, *getattr(hint, "__args__", ())]
    return next(each for each in options if isinstance(each, type) and issubclass(each, Expr))


def _accepted(sort: type[Expr]) -> tuple[type, ...]:
    """Terms of this sort, and the Python values that are literals of it."""
    return (sort, _PLAIN[sort.sort]) if sort.sort in _PLAIN else (sort,)


def sort_named(sort: str) -> str:
    """The Python name of an egglog sort."""
    return next(each.__name__ for each in SORTS if each.sort == sort)


def described(value: Any) -> str:
    """A value in a message: terms with their sort, others with their type."""
    if isinstance(value, Expr):
        return f"{value} ({type(value).__name__})"
    name = getattr(value, "__name__", None)
    return f"the function {name}" if callable(value) and name else f"{value!r} ({type(value).__name__})"


def _miscounted(made: Constructor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    signature = ", ".join(f"{name}: {sort_named(sort)}" for name, sort in zip(made.operands, made.columns, strict=True))
    head = f"{made.word}({signature}) takes {len(made.columns)} operands, by position"
    if kwargs:
        return f"{head}; got {', '.join(f'{key}=' for key in kwargs)}: leave the name out"
    missing = made.operands[len(args) :]
    return f"{head}; got {len(args)}" + (f": {', '.join(missing)} missing" if missing else "")


def _misplaced(made: Constructor, at: int, found: Any) -> str:
    """What operand `at` of a word should have been; and what to write instead, where that is plain."""
    wanted = made.columns[at]
    message = (
        f"{made.word}: operand {at + 1}, {made.operands[at]}, must be {sort_named(wanted)}, got {described(found)}"
    )
    if callable(found):
        return f"{message}; a word is called: {getattr(found, '__name__', 'word')}()"
    if wanted == "T" and isinstance(found, (int, float, Number)):
        return f"{message}; a number among tensors is scalar({found})"
    if wanted == "f64" and isinstance(found, int):
        return f"{message}; write {float(found)}"
    if wanted == "f64" and isinstance(found, Integer):
        return f'{message}; write Number.of("to-f64", {found})'
    if wanted == "Dims" and isinstance(found, list):
        return f"{message}; write vec(...)"
    makers = [each.word for each in CONSTRUCTORS.values() if each.sort == wanted]
    return f"{message}; {sort_named(wanted)} are made by {', '.join(makers[:5])}" if 0 < len(makers) < 12 else message
