"""`qegraph bench --profile`: the parts of the latency, printed as each is ready."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qegraph.bench.run import Settings
from qegraph.bench.table import show
from qegraph.errors import QegraphError
from qegraph.machine import describe
from qegraph.progress import progress

from .measure import profiles
from .table import profile_tables

VARIANTS = ("torchao", "inductor", "qegraph", "qegraph+compile", "backend")
"""Those whose every operator the profiler sees."""
DEFAULT = ("qegraph+compile",)
_TOLERANCE = 0.05


def run(models: Sequence[str], settings: Settings) -> int:
    """Print the profiles; 1 if the parts of one don't add up to its latency, within 5 %."""
    unknown = [name for name in settings.variants if name not in VARIANTS]
    if unknown:
        raise QegraphError(f"No profile can be made of {', '.join(unknown)}. It can of: {', '.join(VARIANTS)}.")
    failures: list[str] = []
    with progress("profile", len(models) * len(settings.variants)) as tell:
        for done, profile in enumerate(profiles(models, settings, tell), 1):
            tell.done(done)
            show(profile_tables(profile))
            if abs(profile.accounted - 1.0) > _TOLERANCE:
                failures.append(f"{profile.model}, {profile.variant}: parts add up to {profile.accounted:.1%}")
    print(f"{describe(settings.threads).line()}; seed {settings.seed}, {settings.rounds} rounds, {settings.size} size")
    for failure in failures:
        print(f"FAILED {failure} of the latency; is the machine busy with other work?", file=sys.stderr)
    return 1 if failures else 0
