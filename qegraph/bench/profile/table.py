"""Profiles as tables."""

from __future__ import annotations

from qegraph.bench.table import Table

from .split import Call, Part, Profile

_DEAREST = 5


def profile_tables(profile: Profile) -> list[Table]:
    """The parts with their sum and the latency, and the calls that take most."""
    rows = [_row(part.value, profile.parts[part], profile) for part in Part]
    rows += [_row("sum", profile.total, profile), _row("latency, not profiled", profile.latency, profile)]
    title = f"{profile.model}, {profile.variant}: where the time of one call goes"
    dearest = tuple(_call(each, profile) for each in profile.dearest(_DEAREST))
    return [
        Table(title, ("part", "µs", "%"), tuple(rows)),
        Table("Its dearest calls", ("operator or kernel", "µs", "%", "kernel µs", "what"), dearest, False),
    ]


def _row(name: str, microseconds: float, profile: Profile) -> tuple[str, ...]:
    return name, f"{microseconds:,.0f}", f"{microseconds / profile.latency:.1%}"


def _call(call: Call, profile: Profile) -> tuple[str, ...]:
    kernel = "-" if call.kernel is None else f"{call.kernel:,.0f}"
    share = f"{call.microseconds / profile.latency:.1%}"
    return call.name, f"{call.microseconds:,.0f}", share, kernel, call.detail
