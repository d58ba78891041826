"""One verification: both graphs on the same inputs, every emitted value and every result compared."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from qegraph._torch import pytree
from qegraph.emit import META
from qegraph.evidence import Evidence
from qegraph.extract import Selection
from qegraph.inputs import Inputs
from qegraph.search import Search
from qegraph.undisturbed import undisturbed
from qegraph.validate import Checker, Difference, Recorder, compare

from .calls import Calls
from .noise import Noisy, Slack

_NOISY_RUNS = 3


@dataclass(frozen=True)
class Verdict:
    """refused  why the result isn't to be used; empty if it is right. verified: what was compared, in words."""

    refused: str = ""
    verified: str = ""


def verified(source: fx.GraphModule, of: Search, selection: Selection, fast: fx.GraphModule, calls: Calls) -> Verdict:
    """Run `source` and `fast`, which was emitted from `selection`, on the same inputs and compare

    - every value of `fast` that stands for one of `source`, fed the source's own values;
    - values of the source that rules say are equal, where the result relies on it;
    - the results of whole runs, which may differ by what noise of the size of a rounding makes of the source's;
    - the inputs before and after.

    Random numbers are the same in all runs. Nothing of the caller's is written, its random state included.
    """
    values = results = 0
    for number, inputs in enumerate(calls.inputs, 1):
        place = f"on {calls.origin}" + (f" ({number} of {len(calls.inputs)})" if len(calls.inputs) > 1 else "")
        try:
            truth = _truth(source, inputs)
        except Exception as error:  # whatever the graph's own operators raise
            return Verdict(
                f"it can't be verified {place}: the given graph itself raises {type(error).__name__}: {error!s:.200}; "
                "pass verify=[(x, ...), ...] with arguments that it takes"
            )
        try:
            found = _Comparison(truth, of, selection, fast).run(inputs)
        except Exception as error:  # as good a reason to refuse the result as any
            return Verdict(f"refused by verification {place}: the result raises {type(error).__name__}: {error!s:.200}")
        if found.problems:
            more = f"; and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
            return Verdict(f"refused by verification {place}: {found.problems[0]}{more}")
        values, results = values + found.values, results + found.results
    return Verdict(
        verified=f"on {calls.origin}, {values} values and {results} results compared: all within the contract"
    )


@dataclass(frozen=True)
class _Truth:
    """values  by node of the source. results: flat. slack: by node, and by position among the results. is_half: some
    value is in half precision, whose roundings fusing leaves out.
    """

    values: Mapping[str, torch.Tensor]
    results: Sequence[Any]
    slack: Mapping[str, Slack]
    result_slack: Sequence[Slack]
    is_half: bool


def _truth(source: fx.GraphModule, inputs: Inputs) -> _Truth:
    recorder = Recorder(source)
    results = _run(recorder.call, inputs)
    slack: dict[str, Slack] = {}
    result_slack = [Slack()] * len(results)
    for seed in range(_NOISY_RUNS):
        noisy = Noisy(source, recorder.values, seed)
        moved = _run(noisy.call, inputs)
        for name, difference in noisy.moved.items():
            slack[name] = slack.get(name, Slack()).grown(difference)
        for at, (wanted, found) in enumerate(zip(results, moved, strict=True)):
            if isinstance(wanted, torch.Tensor):
                result_slack[at] = result_slack[at].grown(compare("", "", found, wanted))
    is_half = any(each.dtype in (torch.bfloat16, torch.float16) for each in recorder.values.values())
    return _Truth(recorder.values, results, slack, result_slack, is_half)


class _Comparison:
    """Of one pair of runs. problems: in words, upstream first; `values` and `results`: how many were compared."""

    def __init__(self, truth: _Truth, of: Search, selection: Selection, fast: fx.GraphModule) -> None:
        self.truth, self.of, self.selection, self.fast = truth, of, selection, fast
        self.problems: list[str] = []
        self.values = self.results = 0

    def run(self, inputs: Inputs) -> _Comparison:
        self._merged()
        self._emitted(inputs)
        if not self.problems:
            self._returned(inputs)
        return self

    def _merged(self) -> None:
        names, known = self.of.program.values, self.truth.values
        for eclass in self.selection.order:
            same = [names[index].name for index in self.of.snapshot.sources.get(eclass, ())]
            first, *others = [name for name in same if name in known] or [""]
            for other in others:
                difference = compare(first, other, known[first], known[other])
                if not self._allows(difference):
                    self._problem(
                        f"{other!r} isn't {first!r}: it {difference}", suspects(self.of.evidence, None, eclass)
                    )

    def _emitted(self, inputs: Inputs) -> None:
        checker = Checker(self.fast, self.truth.values)
        _run(checker.call, inputs)
        self.values = len(checker.differences)
        nodes = {node.name: node for node in self.fast.graph.nodes}
        for difference in checker.differences:
            if not self._allows(difference):
                enode = self.of.snapshot.nodes[nodes[difference.node].meta[META]["enode"]]
                what = f"node {difference.node!r}, which stands for {difference.source!r}, {difference}"
                self._problem(what, suspects(self.of.evidence, enode.index, enode.eclass))

    def _returned(self, inputs: Inputs) -> None:
        given = _copies(inputs)
        found = pytree.tree_leaves(_seeded(lambda: Recorder(self.fast).call(*given)))
        for at, (before, after) in enumerate(zip(inputs, given, strict=True)):
            if isinstance(before, torch.Tensor) and compare("", "", after, before).worst:
                self._problem(f"input {at} is overwritten", [])
        self.results = len(found)
        for at, (wanted, one) in enumerate(zip(self.truth.results, found, strict=True)):
            self._result(at, wanted, one)

    def _result(self, at: int, wanted: Any, found: Any) -> None:
        if not isinstance(wanted, torch.Tensor) or not isinstance(found, torch.Tensor):
            if wanted != found:
                self._problem(f"result {at} is {found!r:.80} instead of {wanted!r:.80}", [])
            return
        difference = compare(f"result {at}", "", found, wanted)
        if not self.truth.result_slack[at].allows(difference):
            self._problem(f"result {at} {difference}, though no value by itself is", [])

    def _allows(self, difference: Difference) -> bool:
        slack = self.truth.slack.get(difference.source, Slack())
        return difference.within_contract or (self.truth.is_half and slack.allows(difference))

    def _problem(self, what: str, rules: Sequence[str]) -> None:
        by = ", ".join(dict.fromkeys(rules))
        self.problems.append(f"{what} (rules behind it: {by})" if by else what)


def suspects(evidence: Evidence, index: int | None, eclass: int) -> tuple[str, ...]:
    """The rules that could have made an e-node wrong, or equal to what it isn't: of every way it can have come from the
    source's own terms, the nearest first.
    """
    found: dict[str, None] = {}
    seen = {eclass}
    pending = deque(evidence.merges.get(eclass, ()))
    nodes = set[int]() if index is None else {index}
    pending.extend(evidence.steps.get(index, ()) if index is not None else ())
    while pending:
        step = pending.popleft()
        found[step.rule] = None
        for each in step.eclasses:
            if each not in seen:
                seen.add(each)
                pending.extend(evidence.merges.get(each, ()))
        for each in step.read:
            if each not in nodes:
                nodes.add(each)
                pending.extend(evidence.steps.get(each, ()))
    return tuple(found)


def _run(call: Callable[..., Any], inputs: Inputs) -> list[Any]:
    """The flat results, copied: a graph may return its input, or what another call overwrites."""
    return _copies(pytree.tree_leaves(_seeded(lambda: call(*_copies(inputs)))))


def _copies(values: Sequence[Any]) -> list[Any]:
    return [each.clone() if isinstance(each, torch.Tensor) else each for each in values]


def _seeded(call: Callable[[], Any]) -> Any:
    with _own_random_state(), undisturbed():
        return call()


_LOCK = threading.Lock()
"""The random state is the process's: two threads that put it back would put back each other's."""


@contextmanager
def _own_random_state() -> Generator[None]:
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
