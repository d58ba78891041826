"""Samples -> the program they are, each sub-term a value with the facts that a source's values have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx.graph import CodeGen

from qegraph.encode import Encoder
from qegraph.engine import Engine
from qegraph.lang.terms import Expr, Tensor, Tensors
from qegraph.lang.vocabulary import rearrange
from qegraph.ops.quant import note_channels, note_sums
from qegraph.ops.rearrange import note_stretch
from qegraph.program import Program, Ref, Value
from qegraph.prove.evaluate import Evaluator
from qegraph.prove.sampler import Sample


class Loader(Encoder):
    """Gives each sub-term of the samples a value of its own, with the facts that the source of a program has."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__(_program(samples))
        self.samples = samples
        self.roots: list[tuple[int, ...]] = []
        self.loaded: list[tuple[int, Expr]] = []
        self.extra: list[Value] = []

    def load(self, engine: Engine) -> None:
        for sample in self.samples:
            self.known: dict[str, Tensor] = {}
            self.sample = sample
            self.values = Evaluator({i: each.tensor for i, each in sample.leaves.items()}, sample.moves)
            self.roots.append(tuple(self._load(term)[0] for term in sample.terms))
            for call in sample.calls.values():
                self._note_call(call)
        self.program = replace(self.program, values=(*self.program.values, *self.extra))
        engine.insert(self.loaded)
        engine.set_facts(self.facts)

    def _load(self, term: Any) -> tuple[int, Tensor]:
        """The value that stands for a tensor term, made with those of its operands."""
        key = str(term)
        if key in self.known:
            found = self.known[key]
            return found.operands[0], found
        built = self._built(term)
        index = term.args[0] if term.head == "Leaf" else self._new(self.values(term))
        alias = Tensor("N", (index,))
        self.loaded.append((index, built))
        self.known[key] = alias
        self._note_value(index, term)
        return index, alias

    def _built(self, term: Any) -> Any:
        """The term over the values of its operands."""
        if not isinstance(term, Expr) or term.args is None or term.head == "Leaf":
            return term
        args = tuple(self._load(arg)[1] if isinstance(arg, Tensor) else self._built(arg) for arg in term.args)
        return type(term)(term.head, args)

    def _new(self, value: Any) -> int:
        index = len(self.program.values) + len(self.extra)
        fake = torch.empty_like(value, device="meta") if isinstance(value, torch.Tensor) else value
        self.extra.append(Value(index, "call", "term", (), {}, fake, f"term_{index}", {}))
        return index

    def _note_value(self, index: int, term: Any) -> None:
        value = self.values(term)
        if isinstance(value, torch.Tensor):
            x = Tensor("N", (index,))
            self.fact("dtype", x, value=str(value.dtype).removeprefix("torch."))
            self.fact("shape", x, value=tuple(value.shape))
            if term.head == "Leaf" and self.sample.leaves[index].constant:
                self.fact("constant", x)
                if value.dtype == torch.float16 and bool(value.isfinite().all()):
                    self.fact("finite", x)
        operands: tuple[Any, ...] = term.operands
        for position, each in enumerate(operands):
            if isinstance(each, Expr) and each.head in ("PerTensor", "PerChannel", "Dynamic") and position:
                self._note_params(operands[position - 1], each)

    def _note_params(self, x: Any, q: Any) -> None:
        x_ref = Ref(x.operands[0]) if isinstance(x, Tensor) and x.head == "Leaf" else None
        built = self._built(q)
        if q.head == "Dynamic":
            self.fact("positive", built)
        elif q.head == "PerTensor" and x_ref is not None:
            note_sums(self, x_ref, built, torch.tensor(float(q.args[0])))
        elif q.head == "PerChannel" and x_ref is not None:
            note_channels(self, x_ref, built, *(Ref(each.args[0]) for each in q.args[:2]))

    def shape(self, operand: Any) -> tuple[int, ...]:
        """A call's own operand is whatever has the shape it was made for."""
        return tuple(self.call.fake.shape) if operand.index < 0 else super().shape(operand)

    def _note_call(self, call: Value) -> None:
        self.call = call
        note_stretch(self, rearrange(str(call.target), call.index, Tensors("vec-empty", ())), call, None)


def _program(samples: Sequence[Sample]) -> Program:
    """Leaves and calls have the indices their samples gave them."""
    values: dict[int, Value] = {}
    constants: dict[str, torch.Tensor] = {}
    for sample in samples:
        values.update(sample.calls)
        for index, leaf in sample.leaves.items():
            name = f"x{index}"
            values[index] = Value(index, "constant" if leaf.constant else "input", name, (), {}, leaf.tensor, name, {})
            if leaf.constant:
                constants[name] = leaf.tensor
    size = max(values, default=-1) + 1
    filler = [values.get(i) or Value(i, "call", "unused", (), {}, None, f"unused_{i}", {}) for i in range(size)]
    return Program(tuple(filler), (), (), constants, {}, CodeGen())
