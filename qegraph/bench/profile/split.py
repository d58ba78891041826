"""A profile: the latency of one call of a model as a sum of parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from qegraph.errors import QegraphError

from .spans import ENTRY, PYTHON, Span
from .verbose import Primitive


class Part(StrEnum):
    """What a stretch of time was spent on."""

    KERNELS = "oneDNN kernels"
    CALLS = "calling them: ops less kernels"
    OTHER = "other kernels"
    COPIES = "reorders and copies"
    PYTHON = "between calls: Python, or the C++ wrapper"
    ENTRY = "entering compiled code"


_NAMESPACES = ("onednn", "mkldnn", "qegraph")
"""Operators of `quantized` that we emit, pooling, are torch's own code."""
_COPY_OPS = {"clone", "contiguous", "copy_", "_to_copy", "to"}
_MOVES = "clone|copy|permute|transpose|t|view|reshape|squeeze|unsqueeze|expand|slice|select|cat|stack|split"
_COPY_KERNEL = re.compile(rf"(?:graph_\w+?_)?cpp_fused(?:_(?:{_MOVES}|q(?:linear|conv|conv2d)_pointwise))+_\d+")
"""Generated kernels are named after what is fused in them, and after the int8 ops they feed."""


@dataclass(frozen=True)
class Call:
    """One operator or generated kernel; `kernel` is the share of its primitive, if it runs one."""

    name: str
    detail: str
    microseconds: float
    kernel: float | None


@dataclass(frozen=True)
class Profile:
    """One call of one variant of a model, in microseconds; `latency` was measured without any instrument."""

    model: str
    variant: str
    latency: float
    parts: Mapping[Part, float]
    calls: tuple[Call, ...]

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def accounted(self) -> float:
        """The sum of the parts as a share of the latency."""
        return self.total / self.latency

    def dearest(self, count: int) -> list[Call]:
        """The calls that take most time."""
        return sorted(self.calls, key=lambda call: -call.microseconds)[:count]


def split(spans: Sequence[Span], primitives: Sequence[Primitive]) -> tuple[dict[Part, float], tuple[Call, ...]]:
    """The parts of a call, and its operators and kernels, from its spans and the primitives run in it.

    Raises QegraphError if the log tells of more kernel time than there was in the operators that run primitives.
    """
    parts = dict.fromkeys(Part, 0.0)
    for span in spans:
        parts[_part(span.name)] += span.microseconds
    kernels = sum(each.microseconds for each in primitives if not each.moves)
    reorders = sum(each.microseconds for each in primitives if each.moves)
    cost = parts[Part.CALLS] - kernels - reorders
    if cost < 0.0:
        raise QegraphError(
            f"The log has {kernels + reorders:.0f} µs of oneDNN kernels, more than the {parts[Part.CALLS]:.0f} µs of "
            "the operators that run them. On a machine with other work, run it again; otherwise an operator of "
            "another namespace runs primitives"
        )
    parts[Part.KERNELS], parts[Part.CALLS] = kernels, cost
    parts[Part.COPIES] += reorders
    return parts, _calls(spans, [each for each in primitives if not each.moves])


def _part(name: str) -> Part:
    """The part an operator's whole time is in; `CALLS` if the kernels of the log are still to be taken off."""
    if name in (PYTHON, ENTRY):
        return Part.PYTHON if name == PYTHON else Part.ENTRY
    if runs_primitives(name):
        return Part.CALLS
    operator = name.rpartition("::")[2].partition(".")[0]
    return Part.COPIES if operator in _COPY_OPS or _COPY_KERNEL.fullmatch(name) else Part.OTHER


def runs_primitives(name: str) -> bool:
    """Whether an operator's work is done by primitives of oneDNN: ours are told by their namespace."""
    namespace, found, operator = name.partition("::")
    return bool(found) and (namespace in _NAMESPACES or "mkldnn" in operator)


def _calls(spans: Sequence[Span], primitives: Sequence[Primitive]) -> tuple[Call, ...]:
    """With their primitives, where there is one for each operator that runs them."""
    owners = [span for span in spans if runs_primitives(span.name)]
    known = iter(primitives) if len(owners) == len(primitives) else None
    calls: list[Call] = []
    for span in spans:
        if span.name in (PYTHON, ENTRY):
            continue
        primitive = next(known) if known and runs_primitives(span.name) else None
        detail = f"{primitive.implementation} {primitive.problem}" if primitive else ""
        calls.append(Call(span.name, detail, span.microseconds, primitive.microseconds if primitive else None))
    return tuple(calls)
