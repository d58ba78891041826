"""Samples -> one e-graph in which the rule has run once -> the graphs of both sides of those it has matched."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen

from qegraph import compile_rules, facts
from qegraph.cost import DEFAULTS
from qegraph.emit import Emitter
from qegraph.encode import Encoder, declared
from qegraph.engine import Engine
from qegraph.extract import extract
from qegraph.freeze import Freezer
from qegraph.lang.rule import Rule
from qegraph.lang.terms import Expr, Tensor, Tensors
from qegraph.lang.vocabulary import rearrange
from qegraph.ops import WORDS
from qegraph.ops.quant import note_channels, note_sums
from qegraph.ops.rearrange import note_stretch
from qegraph.program import Program, Ref, Value
from qegraph.prove.evaluate import Evaluator, graph_of
from qegraph.prove.sampler import Sample

_NEW, _OLD, _NEVER = 1.0, 1e6, 1e12
"""Costs by which extraction takes what the rule has made; what no kernel computes by itself is a step on the way."""


@dataclass(frozen=True)
class Sides:
    """The matched samples of a batch. left computes, from all leaves, their left sides; right, their right sides."""

    samples: tuple[Sample, ...]
    left: fx.GraphModule
    right: Mapping[int, fx.GraphModule | Exception]
    """Sample -> a module that takes that sample's inputs, or why there is none."""


class _Loader(Encoder):
    """Gives each sub-term of the samples a value of its own, with the facts that the source of a program has."""

    def __init__(self, program: Program, samples: Sequence[Sample]) -> None:
        super().__init__(program)
        self.samples = samples
        self.roots: list[tuple[int, ...]] = []
        self.loaded: list[tuple[int, Expr]] = []
        self.extra: list[Value] = []

    def load(self) -> None:
        for sample in self.samples:
            self.known: dict[str, Tensor] = {}
            self.sample = sample
            self.values = Evaluator({i: each.tensor for i, each in sample.leaves.items()}, sample.moves)
            self.roots.append(tuple(self._load(term)[0] for term in sample.terms))
            for call in sample.calls.values():
                self._note_call(call)

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


def sides(rule: Rule, samples: Sequence[Sample]) -> Sides:
    """Both sides of the samples that the rule matches."""
    program = _program(samples)
    loader = _Loader(program, samples)
    loader.load()
    program = replace(program, values=(*program.values, *loader.extra))
    loader.program = program
    engine = declared()
    engine.insert(loader.loaded)
    engine.set_facts(loader.facts)
    engine.run(f"(ruleset {compile_rules.RULESET})")
    for statement in compile_rules.statements(rule):
        engine.run(statement, f"of rule {rule.name} at {rule.where}")
    engine.step(facts.RULESET, saturate=True)
    old = _rows(engine)
    engine.step(compile_rules.RULESET)
    engine.step(facts.RULESET, saturate=True)
    return _built_sides(rule, samples, loader, engine, old)


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


def _rows(engine: Engine) -> set[tuple[str, Any]]:
    """The e-nodes there are."""
    return {(name, row[0]) for name, table in engine.tables().items() for row in table.rows}


def _built_sides(
    rule: Rule, samples: Sequence[Sample], loader: _Loader, engine: Engine, old: set[tuple[str, Any]]
) -> Sides:
    freezer = Freezer(engine, loader.program)
    snapshot = freezer.snapshot()
    rows = freezer.tables[compile_rules.match_table(rule)].rows
    count = len(rule.equalities)
    found = {tuple(freezer.numbers[each] for each in inputs[:count]) for inputs, _ in rows}
    matched = [
        number
        for number, roots in enumerate(loader.roots)
        if tuple(freezer.value_class[index] for index in roots) in found
    ]
    costs = [_NEW] * len(snapshot.nodes)
    for (name, inputs), index in freezer.index_of.items():
        if name == "Leaf":
            costs[index] = 0.0
        elif math.isinf(WORDS[name].cost(snapshot, snapshot.nodes[index], DEFAULTS)):
            costs[index] = _NEVER
        elif (name, inputs) in old:
            costs[index] = _OLD
    evidence = freezer.evidence([rule])
    made: defaultdict[int, set[int]] = defaultdict(set)
    for match in freezer.matches(rule):
        made[match.eclass].update(match.right[-1:])
    right: dict[int, fx.GraphModule | Exception] = {}
    for number in matched:
        roots = loader.roots[number]
        own = replace(
            loader.program,
            values=tuple(_visible(each, samples[number]) for each in loader.program.values),
            output=tuple(Ref(index) for index in roots),
        )
        view = replace(snapshot, roots=tuple(freezer.value_class[index] for index in roots))
        selection = extract(view, costs)
        chosen = {root: selection.choice[root] for root in view.roots}
        if selection.cost >= _NEVER or any(made[root] and index not in made[root] for root, index in chosen.items()):
            continue  # the left side again: the right one is a step on the way to what can be emitted
        try:
            right[number] = Emitter(own, loader, freezer, view, selection, evidence).run()
        except Exception as error:  # whatever it is, this instance has no right side
            right[number] = error
    matched = [number for number in matched if number in right]
    leaves = {i: leaf.tensor for number in matched for i, leaf in samples[number].leaves.items()}
    moves = {uid: move for number in matched for uid, move in samples[number].moves.items()}
    left = graph_of([term for number in matched for term in samples[number].terms], leaves, moves)
    order = {number: position for position, number in enumerate(matched)}
    return Sides(
        tuple(samples[number] for number in matched), left, {order[number]: each for number, each in right.items()}
    )


def _visible(value: Value, sample: Sample) -> Value:
    """Inputs of other samples are none of this one's."""
    return replace(value, kind="call") if value.kind == "input" and value.index not in sample.leaves else value
