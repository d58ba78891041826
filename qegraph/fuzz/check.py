"""All that is asked of one program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

import qegraph
from qegraph import native
from qegraph.alarms import disagreeing_constants
from qegraph.capture import capture
from qegraph.coverage.contract import changed
from qegraph.engine import Engine
from qegraph.errors import Unsupported
from qegraph.kernels import Kernels
from qegraph.lang.rule import Rule
from qegraph.load_rules import RuleItem, select
from qegraph.pricing import CostFunction, Source, price
from qegraph.program import operator_name
from qegraph.ready import ready
from qegraph.search import Search, search

from .draft import Program
from .forms import form
from .judge import disagrees
from .respell import Spelling, other_batches, respelled
from .truth import Truth, truth

DRAWS = 6
"""Of inputs, until one has no near-ties."""


@dataclass(frozen=True)
class Finding:
    """form  which of the equal forms: see `optimized`.
    what    went wrong.
    inputs  on which it shows.
    """

    form: str
    what: str
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Outcome:
    """undecided  why a disagreement isn't called one. forms: how many were run. fired: matches by rule."""

    finding: Finding | None = None
    undecided: str = ""
    decided: bool = True
    forms: int = 0
    fired: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Settings:
    """rules  as `qegraph.optimize` takes them. shaken: how many random forms are run, the dearest beside them.
    native: with our own kernels, too, if there are any. twice: whether searching again changes anything.
    spelling: as which source graph the program is given.
    """

    rules: Sequence[RuleItem] | None = None
    shaken: int = 4
    native: bool = True
    twice: bool = True
    spelling: Spelling = ""


@dataclass(frozen=True)
class _Case:
    """Inputs, and what is known of the program's outputs on them. oracle: as torch runs it."""

    inputs: tuple[Tensor, ...]
    known: Truth
    oracle: Sequence[Tensor]


def check(program: Program, settings: Settings = Settings(), seed: int = 0) -> Outcome:
    """Emit forms of the program and compare each with what the program computes."""
    with torch.no_grad():
        try:
            given = respelled(program, settings.spelling)
        except Exception as error:  # torch has more types of them than it names
            return Outcome(undecided=f"torch.export: {type(error).__name__}: {error}")
        cases = list(_cases(program, given, settings.spelling, seed))
        decided = all(each.known.decided for each in cases)
        for each in cases:
            if reason := disagrees(each.known, each.oracle, each.oracle):
                return Outcome(undecided=f"the q/dq graph itself: {reason}", decided=decided)
        forms = _Forms(given, cases[0].inputs, settings)
        for name, build in forms:
            finding, undecided = _judged(given, name, build, cases)
            if finding or undecided:
                return Outcome(finding, undecided, decided, forms.count, forms.fired)
    return Outcome(decided=decided, forms=forms.count, fired=forms.fired)


def shows(
    module: fx.GraphModule,
    inputs: Sequence[Tensor],
    form: str = "default",
    rules: Sequence[RuleItem] | None = None,
    spelling: Spelling = "",
) -> int:
    """1, after saying why, if this form of the graph is wrong on these inputs; 0 if it isn't. For scripts."""
    program = Program(module, tuple(inputs))
    with torch.no_grad():
        given = respelled(program, spelling)
        cases = list(_cases(program, given, spelling, None))
        finding, undecided = _judged(given, form, lambda: optimized(given, inputs, rules, form), cases)
    print(finding.what if finding else undecided or "as it should be")
    return 1 if finding else 0


def _cases(program: Program, given: fx.GraphModule, spelling: Spelling, seed: int | None) -> Iterator[_Case]:
    """One, on inputs drawn by a seed or the program's own; more where the given module takes other batch sizes."""
    if seed is None:
        inputs, known = program.inputs, truth(program.module, program.inputs)
    else:
        inputs, known = _drawn(program.module, program.inputs, seed)
    yield _Case(inputs, known, outputs(program.module, inputs))
    for others in other_batches(given, inputs) if spelling == "any batch" else ():
        drawn, known = _drawn(given, others, seed or 0)
        yield _Case(drawn, known, outputs(given, drawn))


def _judged(
    given: fx.GraphModule, name: str, build: Callable[[], fx.GraphModule], cases: Sequence[_Case]
) -> tuple[Finding | None, str]:
    """What is wrong with one form; or why that can't be said."""
    code = given.code
    try:
        built = build()
    except Exception as error:  # whatever its type, it is the finding
        return Finding(name, f"{type(error).__name__}: {error}", cases[0].inputs), ""
    open_ = ""
    for case in cases:
        try:
            values, what = _called(built, case.inputs)
        except Exception as error:
            return Finding(name, f"{type(error).__name__}: {error}", case.inputs), ""
        if what or given.code != code:
            return Finding(name, what or "the given graph was changed", case.inputs), ""
        what = disagrees(case.known, case.oracle, values)
        if what and case.known.decided:
            return Finding(name, what, case.inputs), ""
        noisy = case.known.noisy
        if what and all(disagrees(replace(case.known, outputs=each), case.oracle, values) for each in noisy):
            open_ = f"{name}: {what}"
    return None, open_


def _drawn(module: fx.GraphModule, inputs: tuple[Tensor, ...], seed: int) -> tuple[tuple[Tensor, ...], Truth]:
    """Inputs for which the program is decided, if some of the draws are; those given come first."""
    generator = torch.Generator().manual_seed(seed)
    found = truth(module, inputs, seed)
    for _ in range(DRAWS):
        if found.decided:
            break
        inputs = tuple(_like(each, generator) for each in inputs)
        found = truth(module, inputs, seed)
    return inputs, found


def _like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Other numbers of about the size, with the strides it has."""
    spread = float(x.float().std()) if x.numel() > 1 else 1.0
    numbers = torch.randn(x.shape, generator=generator) * spread
    return torch.empty_like(x).copy_(numbers)


def outputs(call: Callable[..., object], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the output tensors; the call gets copies of the inputs."""
    leaves = pytree.tree_leaves(call(*(each.clone() for each in inputs)))
    return [each.clone() for each in leaves if isinstance(each, Tensor)]


def _called(module: fx.GraphModule, inputs: Sequence[Tensor]) -> tuple[list[Tensor], str | None]:
    """The outputs, and what two calls show to be wrong with calling."""
    given = tuple(each.clone() for each in inputs)
    first = [each for each in pytree.tree_leaves(module(*given)) if isinstance(each, Tensor)]
    kept = [each.clone() for each in first]
    if changed(inputs, given):
        return kept, "an input was overwritten"
    if _changed(kept, outputs(module, inputs)):
        return kept, "the second call differs"
    return kept, "the second call overwrote the first one's result" if _changed(kept, first) else None


def _changed(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    """`changed`, where results may be NaN: those are left to the comparison of values."""
    return changed([each.nan_to_num() for each in before], [each.nan_to_num() for each in now])


class _Forms:
    """Named forms of one program, those with torch's kernels emitted from one saturated e-graph."""

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Tensor], settings: Settings) -> None:
        self.module, self.inputs, self.settings = module, inputs, settings
        self.count = 0
        self.fired: dict[str, int] = {}
        self._found: Search | None = None
        self._once: fx.GraphModule | None = None

    def __iter__(self) -> Iterator[tuple[str, Callable[[], fx.GraphModule]]]:
        rules = select(self.settings.rules)
        with ready(rules) as engine:
            for name in self._names():
                self.count += 1
                yield name, lambda name=name: self._built(name, rules, engine)

    def _names(self) -> Iterator[str]:
        yield "default"
        if self.settings.twice:
            yield "twice"
        if self._found is not None:
            yield from ("int8", "dearest", *(f"shaken {number}" for number in range(self.settings.shaken)))
            if self.settings.native and native.unavailable() is None:
                yield "native int8"

    def _built(self, name: str, rules: Sequence[Rule], engine: Engine) -> fx.GraphModule:
        if name == "default":
            self._once = self._default(rules, engine)
        if name in ("default", "twice"):
            assert self._once is not None
            return self._once if name == "default" else settled(self._once, self.inputs, rules)
        assert self._found is not None
        cost, kernels = _asked(name)
        if kernels == self._found.kernels:
            return _emitted(self._found, cost)
        with ready(rules, kernels) as other:
            return _emitted(search(self._found.program, rules, engine=other, kernels=kernels), cost)

    def _default(self, rules: Sequence[Rule], engine: Engine) -> fx.GraphModule:
        """As `qegraph.optimize` gives it, the report included."""
        try:
            program = capture(self.module, self.inputs)
        except Unsupported:
            return qegraph.optimize(self.module, self.inputs, rules=rules)
        found = search(program, rules, engine=engine)
        self.fired = _fired(found)
        if wrong := disagreeing_constants(program, rules, found.snapshot, found.evidence):
            raise wrong
        costs, prices = price("estimated", found)
        selection = found.select(costs)
        once = found.emit(selection)
        found.report(selection, once, costs, prices)
        self._found = found
        return once


def _emitted(found: Search, cost: CostFunction | Source) -> fx.GraphModule:
    costs, _ = price(cost, found)
    return found.emit(found.select(costs))


def optimized(
    module: fx.GraphModule, inputs: Sequence[Tensor], rules: Sequence[RuleItem] | None, name: str
) -> fx.GraphModule:
    """The form of this name as `qegraph.optimize` gives it.

    "default"; "twice", its result searched again, which raises AssertionError if calls other than moves change; or a
    name that `qegraph.fuzz.forms` knows, after "native " with our own kernels.
    """
    cost, kernels = _asked(name)
    once = qegraph.optimize(module, inputs, rules=rules, cost=cost, kernels=kernels)
    return settled(once, inputs, rules) if name == "twice" else once


def settled(once: fx.GraphModule, inputs: Sequence[Tensor], rules: Sequence[RuleItem] | None) -> fx.GraphModule:
    """An optimized graph searched again, as if it were none. Raises AssertionError if calls other than moves change."""
    unknown = fx.GraphModule(once, once.graph)
    again = qegraph.optimize(unknown, inputs, rules=rules)
    if change := _not_settled(once, again):
        raise AssertionError(f"optimizing again changes calls: {change}")
    return again


def _asked(name: str) -> tuple[CostFunction | Source, Kernels]:
    kernels: Kernels = "native" if name.startswith("native ") else "onednn"
    name = name.removeprefix("native ")
    return ("estimated" if name in ("default", "twice") else form(name)), kernels


def _fired(found: Search) -> dict[str, int]:
    """By rule: how many e-nodes it made, and e-classes it said to be others."""
    made = (name for names, _ in found.evidence.makers.values() for name in names)
    merged = (step.rule for steps in found.evidence.merges.values() for step in steps)
    return dict(Counter((*made, *merged)))


_MOVES = frozenset({"reshape", "permute", "contiguous", "clone", "expand", "unsqueeze", "squeeze", "sym_size"})
"""What emission puts around kernels whose form wants it, and sizes; the next e-graph may need fewer of them."""

_SPELLED = {"_to_copy": "to"}
"""Two names of one operator."""

_FOLDED = frozenset({"quantize_per_tensor", "dequantize_per_tensor", "to", "cat"})
"""Of a constant that the first result has computed: the second one computes these, too."""


def _not_settled(once: fx.GraphModule, again: fx.GraphModule) -> str:
    """Which calls the second form has besides those of the first, or lacks; empty if there are none."""
    before, after = _calls(once), _calls(again)
    more = after - before
    fewer = {name: count for name, count in (before - after).items() if name not in _FOLDED}
    return f"{dict(more)} more, {fewer} fewer" if more or fewer else ""


def _calls(module: fx.GraphModule) -> Counter[str]:
    """Without moves."""
    names = (operator_name(node.target) for node in module.graph.nodes if node.op == "call_function")
    return Counter(_SPELLED.get(name, name) for name in names if name not in _MOVES)
