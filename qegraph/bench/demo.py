"""`qegraph demo`: one model of the zoo from q/dq graph to int8 ops, checked, explained and timed, in under a minute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx import GraphModule

import qegraph
from qegraph import zoo
from qegraph.machine import describe
from qegraph.timing import Timing, interleave, speedup, threads

from .accuracy import FACTOR, complaint, error, outputs
from .run import Progress
from .subject import Built, Subject
from .variants import BUILDERS

_MODEL = "resnet18"
_VARIANTS = {"qdq": "q/dq graph, eager", "torchao": "torchao lowering, eager", "qegraph": "qegraph, eager"}
_SAMPLES = 16
_ROUNDS = 15
_REPORT_LINES = 60


def demo(progress: Progress, thread_count: int = 1, size: zoo.Size = "full") -> int:
    """Run the demo and return the exit code: 1 if the numbers are further off than torchao's lowering allows."""
    with threads(thread_count), torch.no_grad():
        progress(f"quantizing {_MODEL} (random weights) with torchao's default x86 recipe")
        model, inputs = zoo.load(_MODEL, size)
        subject = Subject(model, zoo.quantize(model, inputs), inputs)
        built: dict[str, Built] = {}
        for name in _VARIANTS:
            progress(f"building: {_VARIANTS[name]}")
            built[name] = BUILDERS[name](subject)
        _explain(subject, built["qegraph"])
        problem = _check(built, zoo.draw(inputs, _SAMPLES, seed=1))
        progress("timing")
        calls = {name: (each.run, subject.fresh()) for name, each in built.items()}
        timings = interleave({name: lambda run=run, x=x: run(*x) for name, (run, x) in calls.items()}, _ROUNDS)
    _latency(timings, thread_count)
    return 1 if problem else 0


def _explain(subject: Subject, ours: Built) -> None:
    before = len(subject.quantized.graph.nodes)
    print(f"\nOptimized {before} nodes in {ours.seconds:.2f} s ({ours.seconds * 1e3 / before:.2f} ms per node).\n")
    assert isinstance(ours.run, GraphModule)
    lines = str(qegraph.explain(ours.run)).splitlines()
    print("\n".join(lines[:_REPORT_LINES]))
    if len(lines) > _REPORT_LINES:
        print(f"... {len(lines) - _REPORT_LINES} more lines: print(qegraph.explain(fast))")


def _check(built: dict[str, Built], samples: Sequence[zoo.Inputs]) -> str | None:
    """Print the difference from the q/dq graph; the reason why it is too large, or None."""
    found = {name: outputs(each.run, samples) for name, each in built.items()}
    oracle = found["qdq"]
    errors = {name: error(each, oracle) for name, each in found.items()}
    pairs = zip(found["qegraph"], oracle, strict=True)
    agree = sum(bool(one[0].argmax() == other[0].argmax()) for one, other in pairs)
    ours = errors["qegraph"]
    print(f"\nAgainst the q/dq graph, {len(samples)} random inputs:")
    print(
        f"  max difference {ours.maximum:.2e}, largest output {ours.scale:.2f}; top-1 agrees on {agree}/{len(samples)}"
    )
    print(f"  torchao's lowering: max difference {errors['torchao'].maximum:.2e}")
    problem = complaint(ours, errors["torchao"], "torchao")
    print(f"  NOT SOUND ENOUGH: {problem}" if problem else f"  within {FACTOR} times torchao's error, in max and mean")
    return problem


def _latency(timings: dict[str, Timing], thread_count: int) -> None:
    print(f"\nSpeed-up over the q/dq graph, median of {_ROUNDS} interleaved rounds:")
    for name, label in _VARIANTS.items():
        print(f"  {label:<26}{speedup(timings['qdq'], timings[name]):>7.2f}x   {timings[name].median:8.2f} ms")
    print(f"  qegraph over torchao's lowering: {speedup(timings['torchao'], timings['qegraph']):.2f}x")
    print(f"  on {describe(thread_count).line()}")
