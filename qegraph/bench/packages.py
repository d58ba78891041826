"""AOTInductor packages, of the q/dq graph and of ours: what runs without qegraph, from C++ too.

Where torch puts the constants of a package, and so how fast it is, differs from load to load: several take turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch._inductor import config as inductor_config
from torch._inductor.utils import fresh_cache
from torch.fx import GraphModule

import qegraph
from qegraph import native
from qegraph.timing import MINIMUM_SECONDS

from .counts import count, total
from .recorder import Recorder
from .routes import optimize
from .subject import Built, Runner, Subject

_LOADS = 5


def rival(subject: Subject) -> Built:
    """The q/dq graph, with freezing."""
    recorder = Recorder()
    with inductor_config.patch(recorder.frozen()):
        run, seconds = _packaged(subject.copy(), subject, _by_torch)
    return Built(run, total(recorder.counts), seconds)


def ours(subject: Subject) -> Built:
    """Our graph, which needs no flag, with native kernels where they can be had."""
    fast, seconds = optimize(subject, "compiled", "native" if native.load() else "onednn")
    run, more = _packaged(fast, subject, qegraph.package)
    return Built(run, count(fast), seconds + more)


def _by_torch(program: torch.export.ExportedProgram, path: str) -> str:
    return aoti_compile_and_package(program, package_path=path)


def _packaged(
    module: GraphModule, subject: Subject, package: Callable[[torch.export.ExportedProgram, str], str]
) -> tuple[Runner, float]:
    """The loads of a new package, and the seconds until its first call is done."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, fresh_cache():
        path = package(torch.export.export(module, subject.fresh()), str(Path(folder) / "model.pt2"))
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
