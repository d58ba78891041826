"""Program -> loaded e-graph: every value becomes a term, with its dtype and shape as facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from qegraph import facts
from qegraph._torch import known_size
from qegraph.engine import Engine
from qegraph.kernels import Kernels
from qegraph.lang.terms import CONSTRUCTORS, Expr, Tensor, Tensors
from qegraph.lang.vocabulary import leaf, opaque
from qegraph.ops import reader_of
from qegraph.ops.leaves import reads_by_place
from qegraph.program import Program, Ref, Value, map_refs, operands
from qegraph.torch_names import dtype_name

SORTS = ("(sort Dims (Vec i64))", "(sort T)", "(sort TVec (Vec T))", "(sort Q)", "(sort K)", "(sort F)", "(sort M)")
Fact = tuple[str, tuple[Any, ...], Any]


class Encoder:
    """Reads values into terms; implements `qegraph.ops.table.Reading`.

    `read` has the term of every value so far. Symbolic dims get negative ids, equal expressions the same one (`symbols`
    and `symbolic` have them); equal pure opaque calls get the same uid.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.facts: list[Fact] = []
        self.read: list[Expr] = []
        self.symbols: dict[str, int] = {}
        self.symbolic: dict[int, torch.SymInt] = {}
        self._sizes: dict[str, int | None] = {}
        self._uids: dict[Any, int] = {}
        self._constants: dict[int, int] = {}

    # -- what readers ask ----------------------------------------------------------------------------------------------

    def value(self, operand: Any) -> Value:
        return self.program.values[operand.index]

    def tensor(self, operand: Any) -> Tensor:
        return Tensor("N", (operand.index,))

    def shape(self, operand: Any) -> tuple[int, ...]:
        return self.dims(self.value(operand).fake.shape)

    def dtype(self, operand: Any) -> torch.dtype:
        fake = self.value(operand).fake if isinstance(operand, Ref) else None
        return fake.dtype if isinstance(fake, torch.Tensor) else torch.bool

    def constant(self, operand: Any) -> torch.Tensor | None:
        value = self.value(operand) if isinstance(operand, Ref) else None
        return self.program.constants[value.target] if value is not None and value.kind == "constant" else None

    def dims(self, sizes: Any) -> tuple[int, ...]:
        return tuple(self._dim(size) for size in sizes)

    def _dim(self, size: Any) -> int:
        if isinstance(size, int):
            return size
        name = str(size)
        if name not in self._sizes:
            self._sizes[name] = known_size(size)
        if (known := self._sizes[name]) is not None:
            return known
        number = self.symbols.setdefault(name, -1 - len(self.symbols))
        self.symbolic.setdefault(number, size)
        return number

    def fact(self, relation: str, *arguments: Any, value: Any = None) -> None:
        """A row of a relation, or the value of a function."""
        self.facts.append((relation, arguments, value))

    def call_id(self, value: Value, part: Value | None = None) -> int:
        """The index of the first of the calls, or of the parts of one, that are equal but for their operands."""
        shown = map_refs((value.args, dict(value.kwargs)), lambda x: "_" if isinstance(x, Ref) else (type(x), x))
        key = (value.kind, str(value.target), repr(shown), part and part.args[1])
        return self._uids.setdefault(key, (part or value).index)

    # -- encoding ------------------------------------------------------------------------------------------------------

    def terms(self) -> Iterator[tuple[int, Expr]]:
        for value in self.program.values:
            self._note(value)
            term = self._read(value)
            self.read.append(term)
            yield value.index, term

    def _read(self, value: Value) -> Expr:
        if value.kind in ("input", "constant"):
            return leaf(self._leaf(value))
        reader = reader_of(value.target) if value.kind == "call" and value.pure else None
        tensors = isinstance(value.fake, torch.Tensor)
        term = reader(self, value) if reader is not None and tensors else None
        return term if term is not None else self._opaque(value)

    def _leaf(self, value: Value) -> int:
        """Constants that are one tensor are one leaf (tied weights under two names)."""
        if value.kind == "input":
            return value.index
        return self._constants.setdefault(id(self.program.constants[value.target]), value.index)

    def _opaque(self, value: Value) -> Expr:
        # what reads by place is emitted as this call, whose operands lie as they do, and not as one that is equal
        uid = self.call_id(value) if value.pure and not reads_by_place(value.target) else value.index
        items = tuple(Tensor("N", (index,)) for index in operands(value))
        return opaque(uid, Tensors("vec-of", items) if items else Tensors("vec-empty", ()))

    def _note(self, value: Value) -> None:
        if not isinstance(value.fake, torch.Tensor):
            return
        x = Tensor("N", (value.index,))
        dims = self.dims(value.fake.shape)
        self.facts.append(("dtype", (x,), dtype_name(value.fake.dtype)))
        self.facts.append(("shape", (x,), dims))
        if value.kind == "constant":
            self.fact("constant", x)


def encode(program: Program, engine: Engine) -> Encoder:
    """Load `program` into an e-graph of nothing: `(N i)` stands for value i. Linear in the program, never recursive."""
    encoder = Encoder(program)
    engine.insert(encoder.terms())
    engine.set_facts(encoder.facts)
    return encoder


def declared(kernels: Kernels = "onednn") -> Engine:
    """An e-graph of nothing: the words, and the facts about them where these kernels can be called."""
    engine = Engine()
    for sort in SORTS:
        engine.run(sort)
    for constructor in CONSTRUCTORS.values():
        engine.run(constructor.declaration)
    engine.run("(constructor N (i64) T :unextractable)")
    for statement in facts.statements(kernels):
        engine.run(statement)
    return engine
