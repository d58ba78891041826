"""Run the benchmark: build each variant, compare its numbers, time all of them in turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch

from qegraph import zoo
from qegraph.timing import Timing, interleave, speedup, threads

from .accuracy import Error, complaint, error, outputs
from .counts import Counts
from .subject import Built, Subject, Unavailable
from .variants import BASELINE, BUILDERS, DEFAULT, ORACLE, OURS, OWN_QUANTIZATION

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """`samples` is the number of random inputs the outputs are compared on; `options` override the model's size.

    `builds` is how often each variant is built, in turns: the seconds are the median.
    """

    size: zoo.Size = "full"
    rounds: int = 11
    threads: int = 1
    seed: int = 0
    samples: int = 16
    variants: tuple[str, ...] = DEFAULT
    builds: int = 1
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def wanted(self) -> tuple[str, ...]:
        """The variants asked for, with the baseline and the oracle, in the order they are listed in."""
        return tuple(name for name in BUILDERS if name in (*self.variants, BASELINE, ORACLE))


@dataclass(frozen=True)
class Outcome:
    """One variant of one model: either `crash`, or `skipped` with what isn't installed, or everything else.

    speedup      over fp32 eager.
    error        against the q/dq graph, for variants that run it.
    float_error  against the float module, for all: what quantizing costs, by whatever recipe.
    note         what was chosen while building, the last time.
    """

    crash: str | None = None
    skipped: str | None = None
    speedup: float | None = None
    timing: Timing | None = None
    error: Error | None = None
    float_error: Error | None = None
    counts: Counts | None = None
    build_seconds: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Result:
    """One model. `nodes` is all nodes of the q/dq graph; `failures` is what must make the benchmark fail."""

    model: str
    nodes: int
    outcomes: Mapping[str, Outcome]
    failures: tuple[str, ...]

    def ratio(self, slow: str, fast: str) -> float | None:
        """How many times faster `fast` is than `slow`, or None if one of them has no timing."""
        one, other = self._timing(slow), self._timing(fast)
        return speedup(one, other) if one and other else None

    def compile_ratio(self, ours: str, rival: str) -> float | None:
        """How many times as long `ours` took to build as `rival`, or None if one of them wasn't built."""
        one, other = (self.outcomes[name].build_seconds if name in self.outcomes else None for name in (ours, rival))
        return one / other if one and other else None

    def milliseconds_per_node(self) -> float | None:
        """What `optimize` took, for each node of the q/dq graph."""
        ours = self.outcomes.get("qegraph")
        return None if ours is None or ours.build_seconds is None else ours.build_seconds * 1e3 / self.nodes

    def _timing(self, name: str) -> Timing | None:
        outcome = self.outcomes.get(name)
        return outcome.timing if outcome else None


def bench(names: Sequence[str], settings: Settings, progress: Progress) -> Iterator[Result]:
    """Benchmark the named zoo models one after another, giving each result as it is ready."""
    for name in names:
        progress(f"{name}: quantizing")
        with threads(settings.threads):
            model, inputs = zoo.load(name, settings.size, settings.seed, **settings.options)
            subject = Subject(model, zoo.quantize(model, inputs, seed=settings.seed), inputs, settings.seed)
            result = measure(name, subject, settings, progress)
        yield result


def measure(name: str, subject: Subject, settings: Settings, progress: Progress) -> Result:
    """Benchmark one quantized model, at the thread count in force."""
    with torch.no_grad():
        built, outcomes = _build(name, subject, settings, progress)
        progress(f"{name}: comparing outputs")
        errors = _compare(built, outcomes, zoo.draw(subject.inputs, settings.samples, settings.seed + 1))
        progress(f"{name}: timing {len(built)} variants, {settings.rounds} rounds")
        timings = interleave({key: _call(each, subject) for key, each in built.items()}, settings.rounds)
    for key, each in built.items():
        outcomes[key] = Outcome(
            speedup=speedup(timings[BASELINE], timings[key]),
            timing=timings[key],
            error=errors[key][0],
            float_error=errors[key][1],
            counts=each.counts,
            build_seconds=each.seconds,
            note=each.note,
        )
    ordered = {key: outcomes[key] for key in settings.wanted()}
    return Result(name, len(subject.quantized.graph.nodes), ordered, _failures(ordered))


def _call(built: Built, subject: Subject) -> Callable[[], object]:
    inputs = subject.fresh()
    return lambda: built.run(*inputs)


def _build(
    name: str, subject: Subject, settings: Settings, progress: Progress
) -> tuple[dict[str, Built], dict[str, Outcome]]:
    """Build every variant; what crashed or isn't installed is in the second result, with the reason."""
    built: dict[str, Built] = {}
    lost: dict[str, Outcome] = {}
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(settings.builds):
        for key in settings.wanted():
            if key in lost:
                continue
            progress(f"{name}: building {key}")
            try:
                built[key] = BUILDERS[key](subject)
                seconds[key].append(built[key].seconds)
            except (zoo.MissingExtra, Unavailable) as missing:
                lost[key] = Outcome(skipped=str(missing))
            except Exception as problem:  # a rival's crash is a finding, whatever its type
                lost[key] = Outcome(crash=_reason(problem))
    kept = {key: replace(each, seconds=median(seconds[key])) for key, each in built.items() if key not in lost}
    return kept, lost


def _compare(
    built: dict[str, Built], lost: dict[str, Outcome], samples: Sequence[zoo.Inputs]
) -> dict[str, tuple[Error | None, Error]]:
    """Errors against the oracle and the float module; a variant that crashes here moves from `built` to `lost`.

    Having to compile again is a crash: it would happen without the settings the variant was built with, and Inductor
    without freezing is another, slower program. Building one variant can drop the compiled code of another.
    """
    oracle, exact = outputs(built[ORACLE].run, samples), outputs(built[BASELINE].run, samples)
    errors: dict[str, tuple[Error | None, Error]] = {}
    for key in list(built):
        try:
            with torch.compiler.set_stance("fail_on_recompile"):
                found = outputs(built[key].run, samples)
            errors[key] = None if key in OWN_QUANTIZATION else error(found, oracle), error(found, exact)
        except Exception as problem:  # as above
            lost[key] = Outcome(crash=_reason(problem))
            del built[key]
    return errors


def _reason(problem: Exception) -> str:
    """The type and the start of the message on one line: the compilers' first lines alone say little."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]


def _failures(outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    """Crashes of ours, and errors of ours that are larger than Inductor's (or, without it, torchao's) allow."""
    rivals = [(key, each.error) for key in ("inductor", "torchao") if (each := outcomes.get(key)) and each.error]
    found: list[str] = []
    for key in OURS:
        outcome = outcomes.get(key)
        if outcome is None:
            continue
        if outcome.crash:
            found.append(f"{key} crashed: {outcome.crash}")
        if outcome.error and rivals:
            name, reference = rivals[0]
            problem = complaint(outcome.error, reference, name)
            found += [f"{key}: {problem}"] if problem else []
    return tuple(found)
