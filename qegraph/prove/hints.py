"""What a rule's guards ask of its variables, read off their facts, so that samples meet them more often than by chance.

Hints only steer: whether the guards hold of a sample is decided in the e-graph, as for any other program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, subterms
from qegraph.lang.trees import Tree, read, written


def _names() -> set[str]:
    return set()


@dataclass
class Hints:
    """Names of variables, by what is asked of them."""

    constant: set[str] = field(default_factory=_names)
    accumulator: set[str] = field(default_factory=_names)
    """What stands behind it is a contraction of codes."""
    single: set[str] = field(default_factory=_names)
    """Of one element."""
    vector: dict[str, str] = field(default_factory=dict[str, str])
    """Variable -> its length, as text: over the last dim."""
    last: dict[str, str] = field(default_factory=dict[str, str])
    """A length -> the variable whose last dim is that long."""
    column: set[str] = field(default_factory=_names)
    """Over the first of two dims."""
    row: set[str] = field(default_factory=_names)
    """One number for each row."""
    stretch: set[str] = field(default_factory=_names)
    """A move that cuts the last dim."""
    unpadded: set[str] = field(default_factory=_names)
    """A convolution without padding."""
    codes_out: set[str] = field(default_factory=_names)
    """What a kernel stores is codes."""
    half: set[str] = field(default_factory=_names)
    """A dtype of two bytes."""
    kernels: set[str] = field(default_factory=_names)
    """Those that must be there."""
    dtype: dict[str, str] = field(default_factory=dict[str, str])
    dtype_of: dict[str, str] = field(default_factory=dict[str, str])
    """Variable -> the variable its dtype is, or "" for any float."""
    rank: dict[str, int] = field(default_factory=dict[str, int])
    stacks: dict[str, Expr] = field(default_factory=dict[str, Expr])
    """Variable -> the term it repeats over a batch."""
    near: dict[str, float] = field(default_factory=dict[str, float])
    """Variable -> the number it is compared with, up to rounding."""
    numbers: list[float] = field(default_factory=list[float])
    """Literals in the rule's own text, which its numeric variables are likely to be compared with."""
    guards: set[str] = field(default_factory=_names)
    """The names of all of them."""
    windows: bool = False
    """Contractions must be convolutions."""
    float8: bool = False
    """The rule is about such codes."""


_SETS = {
    "constant": "constant", "float32-or-nothing": "constant", "absorbs": "accumulator", "scalable": "accumulator",
    "from-accumulator": "accumulator", "one-element": "single", "half-dtype": "half", "unpadded": "unpadded",
}  # fmt: skip
"""Relation of one variable -> the set of `Hints` it goes into."""


def hints_of(rule: Rule) -> Hints:
    found = Hints(guards={guard.name for guard in rule.guards})
    binds = {str(bind): bind for guard in rule.guards for bind in guard.binds}
    for guard in rule.guards:
        for text in guard.facts:
            for fact in read(text):
                _note(found, fact, binds)
    found.float8 = any(term.head == "Float8" for each in rule.equalities for term in subterms(each.lhs))
    found.numbers += sorted(_literals(rule))
    return found


def _note(found: Hints, fact: Tree, binds: dict[str, Expr]) -> None:
    match fact:
        case [str(relation), str(name)] if relation in _SETS:
            getattr(found, _SETS[relation]).add(name)
        case ["present", str(name)]:
            found.kernels.add(name.strip('"'))
        case ["float-dtype", ["dtype", str(name)]]:
            found.dtype_of.setdefault(name, "")
        case ["stacks", str(name), what] if written(what) in binds:
            found.stacks[name] = binds[written(what)]
        case ["=", one, other]:
            _note_equal(found, one, other)
            _note_equal(found, other, one)
        case _:
            _note_size(found, fact)


def _note_size(found: Hints, fact: Tree) -> None:
    match fact:
        case ["<=", left, ["*", _, ["step", str(name)]]]:
            found.codes_out.add(name)
            found.windows = "largest-sum" in written(left)
        case ["<", ["abs", ["-", str(name), str(literal)]], _]:
            found.near[name] = float(literal)
        case _:
            pass


def _note_equal(found: Hints, one: Tree, other: Tree) -> None:
    match one, other:
        case str(literal), ["dtype", str(name)]:
            known = found.dtype if literal.startswith('"') else found.dtype_of
            known[name] = literal.strip('"')
        case ["vec-of", length], ["shape", str(name)]:
            found.vector[name] = written(length)
        case str(length), ["last-dim", str(name)] if not length.isdigit():
            found.last[length] = name
        case ["vec-of", _, "1"], ["shape", str(name)]:
            found.column.add(name)
        case "1", ["last-dim", str(name)]:
            found.row.add(name)
        case _, ["stretch", str(name), _]:
            found.stretch.add(name)
        case str(count), ["rank", str(name)] if count.isdigit():
            found.rank[name] = int(count)
        case _:
            pass


def _literals(rule: Rule) -> set[float]:
    """Numbers of the terms and the facts, as egglog writes floats."""
    texts = [fact for guard in rule.guards for fact in guard.facts]
    numbers = {float(each) for text in texts for each in re.findall(r"(?<![\w.-])-?\d+\.\d+(?:e[+-]?\d+)?", text)}
    for equality in rule.equalities:
        for term in (*subterms(equality.lhs), *subterms(equality.rhs)):
            numbers.update(arg for arg in term.args or () if isinstance(arg, float))
    return numbers
