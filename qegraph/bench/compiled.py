"""Variants through `torch.compile`: Inductor's own int8 path, as it is and tuned, and ours.

Each compiles with an empty cache, so that its seconds are those of a first compilation on a machine that has compiled
before: Inductor's precompiled C++ headers, which it makes once, are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch._inductor import config as inductor_config
from torch._inductor.utils import fresh_cache

from qegraph.compiling.tuned import is_wrong
from qegraph.timing import interleave

from .counts import count, total
from .recorder import Recorder
from .routes import optimize
from .subject import Built, Runner, Subject, Unavailable

Mode = Literal["default", "tuned"]

_AUTOTUNE = {
    "max_autotune": True,
    "max_autotune_gemm_backends": "CPP,ATEN",
    "autotune_num_choices_displayed": 0,  # it prints them all otherwise
}
_TUNINGS: Mapping[str, Mapping[str, Any]] = {
    "cpp_wrapper": {"cpp_wrapper": True},
    "max_autotune": _AUTOTUNE,
    "cpp_wrapper + max_autotune": {"cpp_wrapper": True, **_AUTOTUNE},
}
_TUNING_ROUNDS = 9


def first_calls(compiled: Runner, subject: Subject) -> float:
    """Have `compiled` compile for the subject's inputs, from an empty cache; the seconds until it is ready."""
    begin = time.perf_counter()
    with fresh_cache():
        compiled(*subject.fresh())
        compiled(*subject.fresh())
    return time.perf_counter() - begin


def _frozen(subject: Subject, options: Mapping[str, Any]) -> Built:
    recorder = Recorder()
    compiled = torch.compile(subject.copy())
    with inductor_config.patch({**recorder.frozen(), **options}):
        seconds = first_calls(compiled, subject)
    return Built(compiled, total(recorder.counts), seconds)


def inductor(subject: Subject) -> Built:
    """The q/dq graph through Inductor with freezing, without which it makes no int8 op, and its other defaults."""
    return _frozen(subject, {})


def inductor_tuned(subject: Subject) -> Built:
    """The fastest of Inductor's tunings for this model that is right; the note says which, and which are wrong.

    `seconds` is that one's alone.
    """
    built: dict[str, Built] = {}
    problems: list[Exception] = []
    wrong: list[str] = []
    wanted = subject.quantized(*subject.fresh())
    for name, options in _TUNINGS.items():
        try:
            made = _frozen(subject, options)
            if is_wrong(made.run(*subject.fresh()), wanted):
                wrong.append(name)
            else:
                built[name] = made
        except Exception as problem:  # not every tuning compiles every model
            problems.append(problem)
    if not built:
        raise problems[0] if problems else AssertionError(f"Inductor's results are wrong: {', '.join(wrong)}")
    timings = interleave({name: _call(each.run, subject) for name, each in built.items()}, _TUNING_ROUNDS)
    best = min(built, key=lambda name: timings[name].median)
    note = f"{best}; wrong: {', '.join(wrong)}" if wrong else best
    return Built(built[best].run, built[best].counts, built[best].seconds, note)


def _call(run: Runner, subject: Subject) -> Callable[[], object]:
    inputs = subject.fresh()
    return lambda: run(*inputs)


def optimized(subject: Subject) -> Built:
    """`torch.compile` of our graph."""
    fast, seconds = optimize(subject, "compiled")
    counts = count(fast)
    compiled = torch.compile(fast)
    return Built(compiled, counts, seconds + first_calls(compiled, subject))


def backend(mode: Mode) -> Callable[[Subject], Built]:
    """The q/dq graph through our own `torch.compile` backend, which needs no flag of the caller's."""

    def build(subject: Subject) -> Built:
        if "qegraph" not in torch.compiler.list_backends():
            raise Unavailable("torch.compile knows no backend qegraph: install the package, whose entry point it is")
        recorder = Recorder()
        compiled = torch.compile(subject.copy(), backend="qegraph", options={"mode": mode})
        with inductor_config.patch(post_grad_custom_post_pass=recorder):
            seconds = first_calls(compiled, subject)
        return Built(compiled, total(recorder.counts), seconds)

    return build
