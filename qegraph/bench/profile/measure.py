"""Profiles of zoo models: each variant of each in a process of its own, whose output oneDNN logs to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from qegraph.bench.run import Progress, Settings
from qegraph.errors import QegraphError

from .spans import Span
from .split import Profile, split
from .verbose import Primitive, primitives
from .worker import Job, middle


def profiles(models: Sequence[str], settings: Settings, progress: Progress) -> Iterator[Profile]:
    """One after another, of the settings' variants, each as it is ready."""
    for model in models:
        for variant in settings.variants:
            progress(f"{model}: profiling {variant}")
            yield _profile(Job(model, settings.size, settings.seed, settings.threads, variant, settings.rounds))


def _profile(job: Job) -> Profile:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked, answer, log, errors = (folder / each for each in ("job.json", "seen.json", "log", "errors"))
        asked.write_text(json.dumps(asdict(job)))
        command = [sys.executable, "-m", "qegraph.bench.profile.worker", str(asked), str(answer)]
        with log.open("w") as out, errors.open("w") as err:  # files: a pipe's reader would take a core from it
            code = subprocess.run(command, stdout=out, stderr=err).returncode
        if code:
            said = errors.read_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise QegraphError(f"Profiling {job.variant} of {job.model} failed with exit code {code}: {said[0]}")
        seen = json.loads(answer.read_text())
        with log.open() as lines:
            logged = one_call(primitives(lines), seen["logged"])
    parts, calls = split([Span(**each) for each in seen["spans"]], logged)
    return Profile(job.model, job.variant, seen["latency"], parts, calls)


def one_call(logged: Sequence[Primitive], calls: int) -> list[Primitive]:
    """The primitives of one call, from the log of several. Raises QegraphError if they didn't all run the same."""
    length, rest = divmod(len(logged), calls)
    by_call = [logged[at * length : (at + 1) * length] for at in range(calls)]
    same = {tuple(replace(each, microseconds=0.0) for each in call) for call in by_call}
    if rest or len(same) > 1:
        raise QegraphError(f"oneDNN logged {len(logged)} primitives over {calls} calls, not the same in each call")
    columns = zip(*by_call, strict=True)
    return [replace(each[0], microseconds=middle([one.microseconds for one in each])) for each in columns]
