"""AOTInductor packages, of the q/dq graph and of ours: what runs without qegraph, from C++ too.

Where torch puts the constants of a package, and so how fast it is, differs from load to load: several take turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch._inductor import config as inductor_config
from torch._inductor.utils import fresh_cache
from torch.fx import GraphModule

from qegraph.timing import MINIMUM_SECONDS

from .counts import count, total
from .recorder import Recorder
from .routes import optimize
from .subject import Built, Runner, Subject

_LOADS = 5


def rival(subject: Subject) -> Built:
    """The q/dq graph, with freezing."""
    recorder = Recorder()
    run, seconds = _packaged(subject.copy(), subject, recorder.frozen())
    return Built(run, total(recorder.counts), seconds)


def ours(subject: Subject) -> Built:
    """Our graph, which needs no flag."""
    fast, seconds = optimize(subject, "compiled")
    run, more = _packaged(fast, subject, {})
    return Built(run, count(fast), seconds + more)


def _packaged(module: GraphModule, subject: Subject, options: Mapping[str, Any]) -> tuple[Runner, float]:
    """The loads of a new package, and the seconds until its first call is done."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, fresh_cache(), inductor_config.patch({**options}):
        program = torch.export.export(module, subject.fresh())
        path = aoti_compile_and_package(program, package_path=str(Path(folder) / "model.pt2"))
        first = aoti_load_package(path)
        first(*subject.fresh())
        seconds = time.perf_counter() - begin
        loads = [first, *(aoti_load_package(path) for _ in range(_LOADS - 1))]
    return in_turns(loads, subject.fresh()), seconds


def in_turns(loads: Sequence[Callable[..., Any]], inputs: Sequence[Any]) -> Runner:
    """Each runs for about as long as a sample of a benchmark lasts, then the next: in its own caches, as one alone."""
    begin = time.perf_counter()
    for load in loads:
        load(*inputs)
    stretch = max(1, round(MINIMUM_SECONDS * len(loads) / (time.perf_counter() - begin)))
    calls = 0

    def run(*given: Any) -> object:
        nonlocal calls
        calls += 1
        return loads[calls // stretch % len(loads)](*given)

    return run
