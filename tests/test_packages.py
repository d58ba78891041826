"""AOTInductor packages in the benchmark: how loads take turns, and that ours has what `torch.compile` has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace

import pytest

from qegraph import zoo
from qegraph.bench import Settings, Subject, measure, packages
from qegraph.timing import MINIMUM_SECONDS


@pytest.mark.parametrize(("seconds", "stretch"), [(MINIMUM_SECONDS * 2, 1), (MINIMUM_SECONDS / 20, 20)])
def test_a_load_runs_for_a_sample_and_then_the_next(
    seconds: float, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, order = [0.0], list[str]()
    monkeypatch.setattr(packages, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def load(name: str) -> Callable[[int], int]:
        def run(given: int) -> int:
            now[0] += seconds
            order.append(name)
            return given + 1

        return run

    run = packages.in_turns([load(name) for name in "abc"], [1])
    assert order == ["a", "b", "c"], "each is warm"
    order.clear()
    assert {run(1) for _ in range(100)} == {2} and set(order) == {*"abc"}
    stretches = [len(list(group)) for _, group in groupby(order)]
    assert {*stretches[1:-1]} == {stretch}


@pytest.mark.zoo
def test_packages_are_built_compared_and_timed() -> None:
    model, inputs = zoo.load("resnet18", "small")
    subject = Subject(model, zoo.quantize(model, inputs), inputs)
    variants = ("inductor", "backend", "inductor-package", "package")
    settings = Settings(size="small", rounds=2, samples=2, variants=variants)
    result = measure("resnet18", subject, settings, lambda _: None)
    assert not result.failures and all(each.crash is None for each in result.outcomes.values())
    for compiled, packaged in zip(variants[:2], variants[2:], strict=True):
        one, other = result.outcomes[compiled], result.outcomes[packaged]
        assert one.counts and other.counts and one.error == other.error
        assert replace(one.counts, nodes=0) == replace(other.counts, nodes=0), "but for nodes, counted at another stage"
    assert result.ratio("inductor-package", "package") and result.compile_ratio("package", "inductor-package")
