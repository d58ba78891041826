"""A smaller case that is refuted too: tiny dims, then inputs with as little in them as still shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import torch

from qegraph.lang.rule import Rule
from qegraph.prove.batch import sides
from qegraph.prove.hints import hints_of
from qegraph.prove.instances import judged, samples
from qegraph.prove.judge import Case, Verdict, judge
from qegraph.prove.leaves import Draw

_TRIES = 240
_MOST_STEPS = 32
"""Elements of an input that are tried one by one."""


def shrunk(rule: Rule, failures: Sequence[tuple[Case, Verdict]], seed: int) -> tuple[Case, Verdict]:
    """The smallest refuted case among those found and some with tiny dims, simplified."""
    with torch.no_grad():
        found = [*failures, *_tiny(rule, seed)]
        case, verdict = min(found, key=lambda each: each[0].sample.elements)
        return _simplified(case, verdict)


def _tiny(rule: Rule, seed: int) -> Iterator[tuple[Case, Verdict]]:
    batch = samples(rule, hints_of(rule), count(seed * 1_000_000 + 500_000), count(), _TRIES, tiny=True)
    if not batch:
        return
    found = sides(rule, batch)
    generator = torch.Generator().manual_seed(seed)
    for draw in Draw:
        for case, verdict in judged(found, draw, generator):
            if verdict.outcome == "refuted":
                yield case, verdict


def _simplified(case: Case, verdict: Verdict) -> tuple[Case, Verdict]:
    """Inputs set to 0, to 1, then element by element to 0, as long as the case stays refuted."""
    for index, leaf in case.sample.leaves.items():
        if leaf.constant or leaf.fill.what == "fixed" or not leaf.tensor.numel():
            continue
        for change in _changes(leaf.tensor.numel()):
            simple = change(case.values[index])
            tried = replace(case, values={**case.values, index: simple})
            outcome = judge(tried, tuple(tried.left(*tried.values.values())))
            if outcome.outcome == "refuted":
                case, verdict = tried, outcome
    return case, verdict


def _changes(elements: int) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    yield torch.zeros_like
    yield lambda x: torch.ones(x.shape).to(x.dtype)
    for position in range(min(elements, _MOST_STEPS)):
        yield lambda x, position=position: _zeroed(x, position)


def _zeroed(x: torch.Tensor, position: int) -> torch.Tensor:
    """With the strides it has."""
    changed = x.clone()
    changed[tuple(int(each) for each in torch.unravel_index(torch.tensor(position), x.shape))] = 0
    return changed
