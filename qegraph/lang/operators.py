"""Python's operators on terms. Each refuses, and says which word to write: rules state terms, they don't compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from qegraph.errors import WordError

_WORDS = {"+": "add", "*": "mul", "/": "div", "@": "matmul"}
_NUMBERS = ("f64", "i64")
_ASKED = {
    "shape": "shape_is(x, s) or same_shape(x, y)",
    "dtype": "has_dtype(x, d) or same_dtype(x, y)",
    "ndim": "rank_is(x, 4)",
}


def _refuse(symbol: str, turned: bool = False) -> Callable[..., NoReturn]:
    """An operator; `turned` if the term is its right operand."""

    def refuse(self: Any, other: Any) -> NoReturn:
        x, y = (other, self) if turned else (self, other)
        raise WordError(f"`{x} {symbol} {y}` is Python's, on terms; {_instead(symbol, self, x, y)}")

    return refuse


def _instead(symbol: str, term: Any, x: Any, y: Any) -> str:
    if symbol in ("<", "<=", ">", ">="):
        return "what must hold is a guard: `.when(...)`"
    if term.sort in _NUMBERS:
        return f'write {type(term).__name__}.of("{symbol}", {x}, {y})'
    if symbol in _WORDS:
        numbers = [isinstance(each, (int, float)) for each in (x, y)]
        x, y = (f"scalar({float(each)})" if n else each for each, n in zip((x, y), numbers, strict=True))
        return f"write {_WORDS[symbol]}({x}, {y})"
    return f'write add({x}, unary(named("neg"), {y}))' if symbol == "-" else "there is no word for it"


class Refusing:
    """Equality stays Python's own, of objects."""

    __slots__ = ()

    __add__, __radd__ = _refuse("+"), _refuse("+", True)
    __sub__, __rsub__ = _refuse("-"), _refuse("-", True)
    __mul__, __rmul__ = _refuse("*"), _refuse("*", True)
    __truediv__, __rtruediv__ = _refuse("/"), _refuse("/", True)
    __matmul__, __rmatmul__ = _refuse("@"), _refuse("@", True)
    __pow__, __rpow__ = _refuse("**"), _refuse("**", True)
    __lt__, __le__, __gt__, __ge__ = _refuse("<"), _refuse("<="), _refuse(">"), _refuse(">=")

    def __neg__(self) -> NoReturn:
        raise WordError(f'`-{self}` is Python\'s, on a term; write unary(named("neg"), {self})')

    def __bool__(self) -> NoReturn:
        raise WordError(f"`{self}` is asked whether it is true; what must hold is a guard: `.when(...)`")

    def __iter__(self) -> NoReturn:
        raise WordError(f"`{self}` is asked for its items; a term stands for any value, and has none to take")

    def __getitem__(self, item: Any) -> NoReturn:
        raise WordError(f"`{self}[{item}]` is Python's, on a term; part(x, start, length) and move(m, x) are words")

    if not TYPE_CHECKING:  # a checker would take it as leave to ask a term for anything

        def __getattr__(self, name: str) -> NoReturn:
            guard = f"; a guard says so: {_ASKED[name]}" if name in _ASKED else ""
            raise AttributeError(f"a term has no {name}: it stands for any value{guard}")
