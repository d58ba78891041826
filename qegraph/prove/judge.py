"""Both sides of a sample on one draw of its inputs: equal, within the contract, or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import fx

from qegraph.lang.terms import subterms
from qegraph.prove.exact import Exact
from qegraph.prove.leaves import Draw, Step
from qegraph.prove.sampler import Sample

RELATIVE = 1e-5
"""Of the largest magnitude: what a float result may be off by."""

SHARE = 10_000
"""One in so many codes may be 1 off without being midway between two, and one in any case."""

Outcome = Literal["exact", "within", "refuted"]


@dataclass(frozen=True)
class Verdict:
    """flips of elements are 1 LSB off. reason  what is wrong, if it is refuted."""

    outcome: Outcome
    flips: int = 0
    elements: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One sample with one draw of its inputs. values  leaf -> tensor; right  the module that was made for it."""

    sample: Sample
    draw: Draw
    values: dict[int, torch.Tensor]
    right: fx.GraphModule | Exception

    @cached_property
    def _exact(self) -> tuple[tuple[Any, ...], list[torch.Tensor | None]]:
        """The outputs without rounding, and of those that are quantized what is rounded."""
        left = self.sample.left
        interpreter = Exact(left)
        outputs = interpreter.outputs(list(self.values.values()))
        (made,) = left.graph.output_node().args
        names = [each.name if isinstance(each, fx.Node) else "" for each in made]  # type: ignore[union-attr]
        return outputs, [interpreter.reals.get(name) for name in names]

    def truth(self, position: int) -> torch.Tensor:
        return self._exact[0][position].double()

    def real(self, position: int) -> torch.Tensor | None:
        return self._exact[1][position]


def steps_of(sample: Sample) -> list[Step]:
    """Of the per-tensor parameters in a sample, one for each."""
    terms = (term for root in sample.terms for term in subterms(root))
    return sorted(
        {(abs(float(term.args[0])), int(term.args[1])) for term in terms if term.head == "PerTensor" and term.args}
    )


def right_outputs(case: Case) -> tuple[Any, ...] | str:
    """What the right side gives, or what is wrong with running it."""
    if isinstance(case.right, Exception):
        return f"the right side can't be built: {_told(case.right)}"
    names = [str(node.target) for node in case.right.graph.nodes if node.op == "placeholder"]
    inputs = [case.values[int(name.removeprefix("x"))] for name in names]
    before = [each.clone() for each in inputs]
    _soil()
    try:
        outputs = case.right(*inputs)
    except Exception as error:  # whatever the kernel raises is the finding
        return f"the right side raises {_told(error)}"
    if not all(_same(old, new) for old, new in zip(before, inputs, strict=True)):
        return "the right side overwrites an input"
    return outputs


def _soil() -> None:
    """Fill memory of all sizes and give it back, so that a kernel which reads what nobody wrote doesn't find zeros."""
    blocks = [torch.full((1 << size,), -77, dtype=torch.int8) for size in range(6, 18)]
    del blocks


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Element by element; what is no number is like its like."""
    if one.dtype.itemsize == 1 and one.is_floating_point():
        one, other = one.float(), other.float()
    return bool(((one == other) | ((one != one) & (other != other))).all())


def judge(case: Case, expected: tuple[Any, ...]) -> Verdict:
    """The right side against `expected`, what the left side gives."""
    found = right_outputs(case)
    if isinstance(found, str):
        return Verdict("refuted", reason=found)
    verdicts = [_compared(case, i, e, f) for i, (e, f) in enumerate(zip(expected, found, strict=True))]
    worst = max(verdicts, key=lambda each: ("exact", "within", "refuted").index(each.outcome))
    return Verdict(
        worst.outcome, sum(each.flips for each in verdicts), sum(each.elements for each in verdicts), worst.reason
    )


def _compared(case: Case, position: int, expected: Any, found: Any) -> Verdict:
    if not isinstance(expected, torch.Tensor) or not isinstance(found, torch.Tensor):
        return Verdict("exact" if expected is found else "refuted", reason=f"{expected} is not {found}")
    shown = [(str(each.dtype).removeprefix("torch."), tuple(each.shape)) for each in (expected, found)]
    if shown[0] != shown[1]:
        return Verdict("refuted", reason=f"left is {shown[0][0]} {shown[0][1]}, right {shown[1][0]} {shown[1][1]}")
    if _same(expected, found):
        return Verdict("exact", 0, expected.numel())
    if not expected.dtype.is_floating_point:
        return _codes(case, position, expected, found)
    compare: Callable[..., Verdict] = _floats if expected.dtype.itemsize == 4 else _narrow
    return compare(case, position, expected.double(), found.double(), expected.dtype)


def _codes(case: Case, position: int, expected: torch.Tensor, found: torch.Tensor) -> Verdict:
    """Where the real value is midway between two codes, either is right."""
    off = (expected.long() - found.long()).abs()
    flips, elements = int((off > 0).sum()), off.numel()
    real = case.real(position)
    wrong = off > 0
    if real is not None:
        wrong &= (found.double() - real).abs() > 0.5 + 1e-3 + 1e-6 * real.abs()
    count = int(wrong.sum())
    if count and (int(off[wrong].max()) > 1 or count > max(1, elements // SHARE)):
        return Verdict("refuted", flips, elements, f"{count} of {elements} codes are wrong, by up to {int(off.max())}")
    return Verdict("within", flips, elements)


def _error(truth: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Absolute; equal infinities and two that aren't numbers are no error."""
    same = (truth == value) | (truth.isnan() & value.isnan())
    return torch.where(same, 0.0, (truth - value).abs()).nan_to_num(nan=float("inf"))


def _floats(case: Case, position: int, expected: torch.Tensor, found: torch.Tensor, dtype: torch.dtype) -> Verdict:
    """Within 1e-5 of the largest magnitude, or nearer to the exact value than twice what the left side is."""
    magnitude = float(torch.where(expected.isfinite(), expected.abs(), 0.0).max())
    worst = float(_error(expected, found).max())
    if worst <= RELATIVE * magnitude:
        return Verdict("exact" if worst == 0 else "within", 0, expected.numel())
    truth = case.truth(position)
    ours, theirs = float(_error(truth, found).max()), float(_error(truth, expected).max())
    if ours <= max(2 * theirs, RELATIVE * magnitude):
        return Verdict("within", 0, expected.numel())
    at = f" of a largest magnitude of {magnitude:.3g}" if magnitude else ""
    return Verdict("refuted", 0, expected.numel(), f"off by {worst:.3g}{at}; allowed {RELATIVE * magnitude:.3g}")


def _narrow(case: Case, position: int, expected: torch.Tensor, found: torch.Tensor, dtype: torch.dtype) -> Verdict:
    """bfloat16 and float16 are rounded less: no further from the exact value than the left side is."""
    truth = case.truth(position)
    ours, theirs = _error(truth, found), _error(truth, expected)
    magnitude = float(torch.where(truth.isfinite(), truth.abs(), 0.0).max())
    unit = torch.finfo(dtype).eps * magnitude
    if (
        float(ours.max()) <= max(float(theirs.max()), 0.51 * unit)
        and float(ours.mean()) <= float(theirs.mean()) + 0.02 * unit
    ):
        return Verdict("within", 0, expected.numel())
    return Verdict(
        "refuted", 0, expected.numel(),
        f"off by {float(ours.max()):.3g} from the exact value, the left side by {float(theirs.max()):.3g}",
    )  # fmt: skip
