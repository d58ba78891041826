"""Instances of a rule: its variables bound to ground terms, at random, so that its left sides are programs.

Every choice comes from one seeded generator. What doesn't fit together is a `Reject`, and another sample is tried.
Values are computed on the way, from operands to results: shapes and dtypes are those of real tensors.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

import torch
from torch import fx

from qegraph.kernels import FLOATS
from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, QParams, Tensor, subterms
from qegraph.lang.vocabulary import (
    absent,
    conv,
    expand,
    identity,
    leaf,
    linear,
    move,
    nothing,
    permute,
    qgemm,
    real,
    vec,
    view,
)  # fmt: skip
from qegraph.program import Value
from qegraph.prove.evaluate import Evaluator, graph_of
from qegraph.prove.hints import Hints
from qegraph.prove.leaves import Draw, Fill, Leaf, made
from qegraph.torch_names import dtype_name

Shape = tuple[int, ...]
MAX_ELEMENTS = 20_000
"""Of one tensor; of rows longer than that, two."""
_SIZES = (1, 2, 3, 4, 5, 7, 8, 16)
_LEADING = (1, 1, 2, 3, 5)


class Reject(Exception):
    """The choices made don't go together."""


@dataclass(frozen=True)
class Want:
    """What the place of a tensor asks of it. role  how it is used: activation, weight, output, statistic."""

    shape: Shape | None = None
    dtype: str | None = None
    role: str = ""


ANY = Want()


@dataclass(frozen=True)
class Sample:
    """terms: the left sides, ground. calls: the source's own rearrangements, by uid; moves: what they do."""

    terms: tuple[Tensor, ...]
    leaves: Mapping[int, Leaf]
    calls: Mapping[int, Value]
    moves: Mapping[int, Callable[[Any], Any]]

    @cached_property
    def left(self) -> fx.GraphModule:
        """Takes all leaves, gives the left sides."""
        return graph_of(self.terms, {index: leaf.tensor for index, leaf in self.leaves.items()}, self.moves)

    @property
    def elements(self) -> int:
        return sum(each.tensor.numel() for each in self.leaves.values())


Grower = Callable[["Sampler", Sequence[Any], Want], tuple[Any, ...]]
GROWERS: dict[str, Grower] = {}
"""Word -> how its operands are chosen; gives them ground."""


def grows(*names: str) -> Callable[[Grower], Grower]:
    def register(grower: Grower) -> Grower:
        GROWERS.update(dict.fromkeys(names, grower))
        return grower

    return register


@dataclass
class Sampler:
    """Binds the variables of one rule. `tiny` keeps dims to 1 and 2, for small counterexamples."""

    rule: Rule
    hints: Hints
    seed: int
    indices: count[int]
    tiny: bool = False
    bound: dict[str, Any] = field(default_factory=dict[str, Any])
    leaves: dict[int, Leaf] = field(default_factory=dict[int, Leaf])
    calls: dict[int, Value] = field(default_factory=dict[int, Value])
    moves: dict[int, Callable[[Any], Any]] = field(default_factory=dict[int, Any])

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.tensors: dict[int, torch.Tensor] = {}
        self.value = Evaluator(self.tensors, self.moves)

    def sample(self) -> Sample:
        """Raises Reject."""
        try:
            terms = tuple(self.tensor(each.lhs, ANY) for each in self.rule.equalities)
        except (RuntimeError, TypeError, IndexError, ValueError, ZeroDivisionError) as error:  # torch refuses the sizes
            raise Reject(str(error)) from error
        used = {term.args[0] for each in terms for term in subterms(each) if term.head == "Leaf" and term.args}
        leaves = {index: self.leaves[index] for index in sorted(used)}
        return Sample(terms, leaves, self.calls, self.moves)

    # -- choices -------------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def odd(self, *guards: str) -> bool:
        """Whether to choose what these guards, by name, exclude: seldom in a rule that has one of them, so that most
        samples match; in a rule that has none often enough to show that it doesn't need them.
        """
        return self.chance(0.03 if self.hints.guards & set(guards) else 0.15)

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def size(self) -> int:
        return self.pick(1, 2) if self.tiny else self.pick(*_SIZES)

    def is_empty(self) -> bool:
        """Whether a batch is one of nothing; instances of that show little else."""
        return self.odd("not-empty") and self.chance(0.5)

    def shape(self, rank: int | None = None) -> Shape:
        """Batches of none and of one are as likely as they are troublesome."""
        size: int = self.pick(1, 2, 2, 2, 3, 3, 4, 4) if rank is None else rank
        dims = [self.size() for _ in range(size)]
        if size > 1:
            dims[0] = 0 if self.is_empty() else self.pick(*((1, 2) if self.tiny else _LEADING))
        return tuple(dims)

    def float_dtype(self) -> str:
        return "float32" if self.chance(0.7) else self.pick(*FLOATS)

    # -- tensors -------------------------------------------------------------------------------------------------------

    def tensor(self, pattern: Any, want: Want) -> Tensor:
        """A ground term for the pattern, with the shape and dtype that are wanted. Raises Reject."""
        if self._is_bound(pattern):
            term = self.ground(pattern)
        elif pattern.is_variable:
            term = self._variable(pattern.head, want)
        elif pattern.head == "Leaf":
            term = self._stored(pattern, want)
        else:
            term = Tensor(pattern.head, GROWERS[pattern.head](self, pattern.args, want))
        self._check(term, want)
        return term

    def _is_bound(self, pattern: Any) -> bool:
        return all(term.head in self.bound for term in subterms(pattern) if term.is_variable)

    def ground(self, pattern: Any) -> Any:
        """The pattern with what its variables are bound to."""
        if not isinstance(pattern, Expr):
            return pattern
        if pattern.is_variable:
            return self.bound[pattern.head]
        return type(pattern)(pattern.head, tuple(self.ground(arg) for arg in pattern.operands))

    def _check(self, term: Tensor, want: Want) -> None:
        value = self.value(term)
        if not isinstance(value, torch.Tensor):
            return
        if want.shape is not None and tuple(value.shape) != tuple(want.shape):
            raise Reject(f"{term}: {tuple(value.shape)} is not {want.shape}")
        if want.dtype is not None and dtype_name(value.dtype) != want.dtype:
            raise Reject(f"{term}: {value.dtype} is not {want.dtype}")
        if value.numel() > max(MAX_ELEMENTS, 2 * max(value.shape, default=0)):
            raise Reject("too large")

    def _variable(self, name: str, want: Want) -> Tensor:
        self.bound[name] = self._witness(name, want)
        return self.bound[name]

    def _witness(self, name: str, want: Want) -> Tensor:
        """What a variable stands for: a leaf, or what its guards look for behind it."""
        if name in self.hints.stacks and self.chance(0.9):
            matrix = self.tensor(self.hints.stacks[name], Want(dtype="float32", role=want.role))
            batch = want.shape[:-2] if want.shape else (self.pick(1, 2, 3),)
            return move(expand(vec(*batch, *self.value(matrix).shape)), matrix)
        if name in self.hints.accumulator and self.chance(0.95):
            return self._accumulator(name, want)
        return self.leaf(want, name)

    def _accumulator(self, name: str, want: Want) -> Tensor:
        """A contraction of codes with a float output, at times rearranged."""
        x, w, b = (Tensor(f"{name}.{each}") for each in ("x", "w", "b"))
        qx, qw = (QParams(f"{name}.{each}") for each in ("qx", "qw"))
        kind = self.pick(linear(), linear(), conv(vec(1, 1), vec(1, 1), vec(1, 1), 1))
        pattern = qgemm(kind, x, qx, w, qw, b, nothing(), absent(), identity(), real("float32"))
        if want.shape is None and self.chance(0.15):
            inner = self.tensor(pattern, Want(dtype="float32"))
            return move(self.rearrangement(tuple(self.value(inner).shape)), inner)
        return self.tensor(pattern, Want(want.shape, "float32"))

    def _stored(self, pattern: Any, want: Want) -> Tensor:
        """A constant the rule names by its index."""
        index = pattern.args[0]
        if index.head not in self.bound:
            term = self.leaf(want, "", constant=True)
            assert term.args is not None
            self.bound[index.head] = term.args[0]
        return leaf(self.bound[index.head])

    def leaf(self, want: Want, name: str = "", constant: bool | None = None, fill: Fill | None = None) -> Tensor:
        """A new input or constant."""
        hints = self.hints
        shape = want.shape
        if shape is None:
            shape = self.pick((1,), (), (1, 1)) if name in hints.single else self.shape(hints.rank.get(name))
        dtype = hints.dtype.get(name) or want.dtype or self._dtype_of(name)
        if constant is None:
            often = 0.97 if name in hints.constant else 0.85 if want.role in ("weight", "statistic") else 0.12
            constant = self.chance(often)
        if fill is None:
            fill = Fill("positive" if want.role == "variance" else "floats" if dtype in FLOATS else "codes")
        index = next(self.indices)
        is_extreme = fill.what == "codes" and (max(shape, default=0) > MAX_ELEMENTS or (constant and self.chance(0.1)))
        draw = Draw.EXTREME if is_extreme else Draw.PLAIN
        self.leaves[index] = made(index, shape, dtype, constant, fill, self.generator, draw)
        self.tensors[index] = self.leaves[index].tensor
        return leaf(index)

    def given(self, tensor: torch.Tensor) -> Tensor:
        """An input that always has this value: indices."""
        index = next(self.indices)
        self.leaves[index] = Leaf(index, tensor, False, Fill("fixed"))
        self.tensors[index] = tensor
        return leaf(index)

    def _dtype_of(self, name: str) -> str:
        """Of a variable whose place asks for none; a rule's own variable for it is bound too."""
        variable = self.hints.dtype_of.get(name)
        if variable and variable in self.bound:
            return self.bound[variable]
        dtype = self.pick(*FLOATS[1:]) if variable in self.hints.half else self.float_dtype()
        if variable and variable in self.rule.variables:
            self.bound[variable] = dtype
        return dtype

    def known(self, pattern: Any) -> torch.Tensor | None:
        """The value of a pattern whose variables are all bound."""
        if not self._is_bound(pattern):
            return None
        value = self.value(self.ground(pattern))
        return value if isinstance(value, torch.Tensor) else None

    # -- data ----------------------------------------------------------------------------------------------------------

    def plain(self, pattern: Any, choose: Callable[[], Any]) -> Any:
        """The Python value of a number, integer, text or list of integers; a variable's own choice if it is free."""
        if not isinstance(pattern, Expr):
            return pattern
        if pattern.is_variable:
            if pattern.head not in self.bound:
                self.bound[pattern.head] = choose()
            return self.bound[pattern.head]
        values = [self.plain(arg, choose) for arg in pattern.operands]
        return self.value(type(pattern)(pattern.head, tuple(values)))

    def number(self, pattern: Any) -> float:
        near = self.hints.near.get(pattern.head) if isinstance(pattern, Expr) else None
        if near is not None and self.chance(0.9):
            return self.plain(pattern, lambda: near * self.pick(1.0, 1.0, 1.0, 1 + 4e-8, 1 + 9e-7))
        return self.plain(pattern, self._some_number)

    def _some_number(self) -> float:
        if self.hints.numbers and self.chance(0.7):
            number = self.pick(*self.hints.numbers)
            return number * (1 + 4e-7) if self.chance(0.1) else number
        return self.pick(0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 0.37, -2.5, 6.0)

    def dtype(self, pattern: Any, want: str | None = None) -> str:
        is_half = isinstance(pattern, Expr) and pattern.is_variable and pattern.head in self.hints.half
        return self.plain(pattern, lambda: want or (self.pick(*FLOATS[1:]) if is_half else self.float_dtype()))

    def rearrangement(self, shape: Shape) -> Any:
        """A move that fits an operand of this shape."""
        rank = len(shape)
        kind = self.pick("permute", "view", "view", "call") if rank else "view"
        if kind == "permute":
            return permute(vec(*self.random.sample(range(rank), rank)))
        if kind == "call":
            from qegraph.prove.moves import call

            return call(self, shape)
        return view(vec(*self.regrouped(shape)))

    def regrouped(self, shape: Shape) -> Shape:
        """Another shape with as many elements: the same, flat, dims merged, or one of 1 put in."""
        options: list[Shape] = [shape, (*shape, 1), (1, *shape)]
        if len(shape) > 1:
            options += [(shape[0] * shape[1], *shape[2:]), (*shape[:-2], shape[-2] * shape[-1])] * 2
        if shape and shape[0] % 2 == 0:
            options.append((2, shape[0] // 2, *shape[1:]))
        return self.pick(*options)
