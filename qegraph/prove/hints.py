"""What a rule's guards ask of its variables, read off their facts, so that samples meet them more often than by chance.

Hints only steer: whether the guards hold of a sample is decided in the e-graph, as for any other program.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, subterms

Tree = Any
"""An atom's text, or a list of trees."""

_CONTRACTIONS = ("absorbs", "from-accumulator", "scalable")


@dataclass
class Hints:
    """By variable. constant: must be one. accumulator: a contraction of codes must stand there. single: one element.

    vector    over the last dim; column: over the first of two; row: one number for each row; stretch: a move that cuts the last dim.
    unpadded  a convolution without padding; windows: a convolution it must be; codes_out: what a kernel stores as codes.
    float8    the rule is about such codes.
    kernels   that must be there.
    near      variable -> the number it is compared with, up to rounding.
    stacks    variable -> the term it repeats over a batch.
    numbers   literals in the rule's own text, which its numeric variables are likely to be compared with.
    """

    constant: set[str] = field(default_factory=set[str])
    accumulator: set[str] = field(default_factory=set[str])
    single: set[str] = field(default_factory=set[str])
    finite: set[str] = field(default_factory=set[str])
    vector: set[str] = field(default_factory=set[str])
    column: set[str] = field(default_factory=set[str])
    row: set[str] = field(default_factory=set[str])
    stretch: set[str] = field(default_factory=set[str])
    unpadded: set[str] = field(default_factory=set[str])
    windows: bool = False
    float8: bool = False
    codes_out: set[str] = field(default_factory=set[str])
    kernels: set[str] = field(default_factory=set[str])
    half: set[str] = field(default_factory=set[str])
    dtype: dict[str, str] = field(default_factory=dict[str, str])
    dtype_of: dict[str, str] = field(default_factory=dict[str, str])
    rank: dict[str, int] = field(default_factory=dict[str, int])
    stacks: dict[str, Expr] = field(default_factory=dict[str, Expr])
    near: dict[str, float] = field(default_factory=dict[str, float])
    numbers: list[float] = field(default_factory=list[float])


def hints_of(rule: Rule) -> Hints:
    found = Hints()
    binds = {str(bind): bind for guard in rule.guards for bind in guard.binds}
    for guard in rule.guards:
        for text in guard.facts:
            for fact in parsed(text):
                _note(found, fact, binds)
    found.float8 = any(term.head == "Float8" for each in rule.equalities for term in subterms(each.lhs))
    found.numbers += sorted(_literals(rule))
    return found


def _note(found: Hints, fact: Tree, binds: dict[str, Expr]) -> None:
    match fact:
        case ["constant" | "float32-or-nothing", str(name)]:
            found.constant.add(name)
        case [relation, str(name)] if relation in _CONTRACTIONS:
            found.accumulator.add(name)
        case ["unpadded", str(name)]:
            found.unpadded.add(name)
        case ["<=", left, ["*", _, ["step", str(name)]]]:
            found.codes_out.add(name)
            found.windows = "largest-sum" in flat(left)
        case ["present", str(name)]:
            found.kernels.add(name.strip('"'))
        case ["one-element", str(name)]:
            found.single.add(name)
        case ["finite", str(name)]:
            found.finite.add(name)
        case ["half-dtype", str(name)]:
            found.half.add(name)
        case ["float-dtype", ["dtype", str(name)]]:
            found.dtype_of.setdefault(name, "")
        case ["stacks", str(name), what] if flat(what) in binds:
            found.stacks[name] = binds[flat(what)]
        case ["<", ["abs", ["-", str(name), str(literal)]], _]:
            found.near[name] = float(literal)
        case ["=", one, other]:
            _note_equal(found, one, other)
            _note_equal(found, other, one)
        case _:
            pass


def _note_equal(found: Hints, one: Tree, other: Tree) -> None:
    match one, other:
        case str(literal), ["dtype", str(name)]:
            if literal.startswith('"'):
                found.dtype[name] = literal.strip('"')
            else:
                found.dtype_of[name] = literal
        case ["vec-of", _], ["shape", str(name)]:
            found.vector.add(name)
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


def parsed(text: str) -> Iterator[Tree]:
    """The s-expressions of a text."""
    stack: list[list[Tree]] = [[]]
    for token in re.findall(r'"[^"]*"|[()]|[^\s()]+', text):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    yield from stack[0]


def flat(tree: Tree) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(map(flat, tree))})"
