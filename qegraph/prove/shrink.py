"""A smaller case that is refuted too: tiny dims, then inputs with as little in them as still shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import torch

from qegraph.lang.rule import Rule
from qegraph.prove.batch import Sides
from qegraph.prove.hints import hints_of
from qegraph.prove.instances import Judged, judged, samples, sides_of
from qegraph.prove.judge import Case, Verdict, judge
from qegraph.prove.leaves import Draw, Leaf

_BATCH, _BATCHES = 24, 4
"""Samples with tiny dims that are tried at a time, until some are refuted."""
_SMALL = 12
"""Elements; what has no more of them is small already."""
_MOST_STEPS = 32
"""Elements of an input that are tried one by one."""


def shrunk(rule: Rule, failures: Sequence[Judged], seed: int) -> Judged:
    """The smallest refuted case among those found and some with tiny dims, simplified."""
    with torch.no_grad():
        case, verdict = min(failures, key=_elements)
        if case.sample.elements > _SMALL:
            case, verdict = min([(case, verdict), *_tiny(rule, seed)], key=_elements)
        return _simplified(case, verdict)


def _elements(found: Judged) -> int:
    return found[0].sample.elements


def _tiny(rule: Rule, seed: int) -> list[Judged]:
    """Refuted samples with dims of 1 and 2."""
    seeds = count(seed * 1_000_000 + 500_000)
    hints, generator = hints_of(rule), torch.Generator().manual_seed(seed)
    for _ in range(_BATCHES):
        batch = samples(rule, hints, seeds, count(), _BATCH, tiny=True)
        if not batch:
            return []
        matched = sides_of(rule, batch)
        if not isinstance(matched, Sides):
            return [matched]
        every = (each for draw in Draw for each in judged(matched, draw, generator))
        found = [each for each in every if each[1].outcome == "refuted"]
        if found:
            return found
    return []


def _simplified(case: Case, verdict: Verdict) -> Judged:
    """Inputs set to 0, to 1, then element by element to 0, as long as the case stays refuted."""
    for index, leaf in case.sample.leaves.items():
        if leaf.constant or leaf.fill.what == "fixed" or not leaf.tensor.numel():
            continue
        for change in _changes(leaf):
            simple = change(case.values[index])
            tried = replace(case, values={**case.values, index: simple})
            outcome = judge(tried, tuple(tried.sample.left(*tried.values.values())))
            if outcome.outcome == "refuted":
                case, verdict = tried, outcome
    return case, verdict


def _changes(leaf: Leaf) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """What must be positive, as the scales of quantizers, is set to 1 at most."""
    is_positive = leaf.fill.what == "positive"
    if not is_positive:
        yield torch.zeros_like
    yield lambda x: torch.ones(x.shape).to(x.dtype)
    for position in range(0 if is_positive else min(leaf.tensor.numel(), _MOST_STEPS)):
        yield lambda x, position=position: _zeroed(x, position)


def _zeroed(x: torch.Tensor, position: int) -> torch.Tensor:
    """With the strides it has."""
    changed = x.clone()
    changed[tuple(int(each) for each in torch.unravel_index(torch.tensor(position), x.shape))] = 0
    return changed
