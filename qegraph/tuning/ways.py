"""Ways to price a graph, by name. What is the cheapest form by one of them may be the fastest.

"estimated", or "50% measured": a geometric mean with what kernels were timed at; both are noisy, each in its own way.
Behind it, rates that are taken to be others: "estimated, conv_call x4". A rate that is wrong is so at every kernel of a
model: such a change moves all choices that hang on it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from qegraph.cost import Rates, rounded

ESTIMATED = "estimated"
_WEIGHTS = {ESTIMATED: 0.0, **{f"{percent}% measured": percent / 100 for percent in (25, 50, 75, 100)}}
"""Of the measured cost."""
_FACTORS = (0.25, 4.0)
_AND, _TIMES = ", ", " x"


@dataclass(frozen=True)
class Ways:
    """rates  of this machine. estimate  gives each e-node's cost (µs) at some. known  what it was timed at, or None."""

    rates: Rates
    estimate: Callable[[Rates], Sequence[float]]
    known: Sequence[float | None]

    def costs(self, name: str) -> list[float]:
        """Per e-node. Raises ValueError for a name that is none."""
        weight, rates = self._read(name)
        pairs = zip(self.estimate(rates), self.known, strict=True)
        return [rounded(e if known is None else known**weight * e ** (1.0 - weight)) for e, known in pairs]

    def knows(self, name: str) -> bool:
        """Whether it is one of these: what was kept by another version may not be."""
        try:
            self._read(name)
        except ValueError:
            return False
        return True

    def _read(self, name: str) -> tuple[float, Rates]:
        """The weight of what is measured, and the rates."""
        base, *changes = name.split(_AND)
        if base not in _WEIGHTS:
            raise ValueError(f"expected one of {', '.join(_WEIGHTS)}, got {base!r}")
        rates = self.rates
        for each in changes:
            field, _, factor = each.partition(_TIMES)
            if field not in vars(rates):
                raise ValueError(f"{field!r} is no rate")
            rates = replace(rates, **{field: getattr(rates, field) * float(factor)})
        return _WEIGHTS[base], rates


def beside(name: str) -> Iterator[str]:
    """The ways that differ from this one in one thing: the share that is measured, or one rate."""
    base, *changes = name.split(_AND)
    yield from (_AND.join((other, *changes)) for other in _WEIGHTS if other != base)
    changed = {each.partition(_TIMES)[0] for each in changes}
    for field in fields(Rates):
        if field.name not in changed:
            yield from (f"{name}{_AND}{field.name}{_TIMES}{factor:g}" for factor in _FACTORS)
