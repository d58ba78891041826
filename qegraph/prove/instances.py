"""Instances of a rule: samples, and both sides of those that match on draws of their inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import torch

from qegraph.errors import ConflictError
from qegraph.lang.rule import Rule
from qegraph.prove import contractions as contractions  # registers its growers
from qegraph.prove import growers as growers
from qegraph.prove.batch import Sides, conflicting, sides
from qegraph.prove.hints import Hints
from qegraph.prove.judge import Case, Verdict, judge, steps_of
from qegraph.prove.leaves import Draw
from qegraph.prove.sampler import Reject, Sample, Sampler


def samples(
    rule: Rule, hints: Hints, seeds: Iterator[int], indices: count[int], wanted: int, tiny: bool = False
) -> list[Sample]:
    """As many as wanted, or as there are among thrice as many tries."""
    found: list[Sample] = []
    for _ in range(3 * wanted):
        if len(found) == wanted:
            break
        try:
            found.append(Sampler(rule, hints, next(seeds), indices, tiny).sample())
        except Reject:
            continue
    return found


Judged = tuple[Case, Verdict]


def sides_of(rule: Rule, batch: Sequence[Sample]) -> Sides | Judged:
    """Both sides of the samples that match; or, where that refutes the rule, one with two dtypes or shapes."""
    try:
        return sides(rule, batch)
    except ConflictError as error:
        sample = conflicting(rule, batch)
        values = {index: leaf.tensor for index, leaf in sample.leaves.items()}
        reason = f"the left and the right side have different {error.fact}s"
        return Case(sample, Draw.PLAIN, values, error), Verdict("refuted", reason=reason)


def judged(of: Sides, draw: Draw, generator: torch.Generator) -> Iterator[Judged]:
    """Every sample on one draw of its inputs."""
    values: dict[int, torch.Tensor] = {}
    for sample in of.samples:
        steps = steps_of(sample)
        for index, leaf in sample.leaves.items():
            values[index] = leaf.drawn(draw, steps, generator)
    order = [int(str(node.target).removeprefix("x")) for node in of.left.graph.nodes if node.op == "placeholder"]
    outputs = of.left(*(values[index] for index in order))
    position = 0
    for number, sample in enumerate(of.samples):
        expected = tuple(outputs[position : position + len(sample.terms)])
        position += len(sample.terms)
        case = Case(sample, draw, {index: values[index] for index in sample.leaves}, of.right[number])
        yield case, judge(case, expected)
