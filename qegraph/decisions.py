"""`qegraph decisions`: choices whose better answer depends on sizes, as the cost model makes them and as timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.bench.run import Progress, Settings
from qegraph.bench.table import Table
from qegraph.capture import capture
from qegraph.coverage.parts import OUT, QP, Conv, Linear, Net, build, dq, fq, q
from qegraph.extract.selection import total
from qegraph.pricing import Source, price
from qegraph.search import Search, search
from qegraph.snapshot import ENode, Snapshot
from qegraph.timing import Call, interleave, speedup, threads
from qegraph.tuning.measuring import call_of

Marks = Callable[[Snapshot, ENode], bool]
Made = tuple[Callable[..., Any], Sequence[nn.Module], Sequence[Tensor]]

_DEAR = 1e6


@dataclass(frozen=True)
class Form:
    """One of the two answers. `avoids` marks the e-nodes that are in the other one only."""

    name: str
    avoids: Marks


@dataclass(frozen=True)
class Decision:
    """A choice between two forms; `make(*sizes)` is a graph that has both, for each of `sizes` another is better.

    floats  a form may run float contractions of quantized operands.
    """

    name: str
    forms: tuple[Form, Form]
    make: Callable[..., Made]
    sizes: tuple[tuple[Any, ...], tuple[Any, ...]]
    floats: bool = False


@dataclass(frozen=True)
class Verdict:
    """costs: estimated µs of both forms. ratio: time of the first over time of the second, measured."""

    decision: Decision
    sizes: tuple[Any, ...]
    costs: tuple[float, float]
    ratio: float

    @property
    def chosen(self) -> str:
        return self.decision.forms[self.costs[0] > self.costs[1]].name

    @property
    def faster(self) -> str:
        return self.decision.forms[self.ratio > 1.0].name


def _stores_codes(node: ENode) -> bool:
    return node.op == "QGemm" and node.args[-1].name == "PerTensor"


def _adds(node: ENode) -> bool:
    """A kernel that takes a residual."""
    return node.op == "QGemm" and node.args[7].name != "Absent"


def _has_zero_point(node: ENode) -> bool:
    return node.op == "QGemm" and node.args[2].name == "PerTensor" and node.args[2].args[1] != 0


def _is_joined(snapshot: Snapshot, node: ENode) -> bool:
    """A contraction with weights joined from several."""
    return node.op == "QGemm" and any(snapshot.nodes[i].op == "Joined" for i in snapshot.classes[node.args[3].number])


def _moves(snapshot: Snapshot, node: ENode, dtype: str) -> bool:
    return node.op == "Moved" and snapshot.dtype.get(node.eclass) == dtype


def _tiny(rows: int, width: int) -> Made:
    return lambda m, x: m(dq(x)), [Linear(width, width)], [torch.randint(0, 255, (rows, width), dtype=torch.uint8)]


_FIRST, _SECOND = 64, 32
"""Channels that the two branches read."""


def _two_branches(kernel: int, other: int, side: int) -> Made:
    x, y = (_image(channels, side) for channels in (_FIRST, _SECOND))
    parts = [Conv(i=_FIRST, o=64, kernel=kernel), Conv(i=_SECOND, o=64, kernel=other)]
    return lambda a, b, x, y: q(F.relu(a(dq(x)) + b(dq(y))), OUT), parts, [x, y]


def _image(channels: int, side: int) -> Tensor:
    x = torch.randint(0, 255, (1, channels, side, side), dtype=torch.uint8)
    return x.contiguous(memory_format=torch.channels_last)


def _reads(snapshot: Snapshot, node: ENode, channels: int) -> bool:
    return _adds(node) and snapshot.shape[node.args[3].number][1] == channels


def _three_heads(rows: int, width: int, out: int) -> Made:
    parts = [Linear(width, out) for _ in range(3)]
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    return lambda a, b, c, x: (a(dq(x)), b(dq(x)), c(dq(x))), parts, [x]


_OTHER = QP(0.08, 40)


def _two_readers(rows: int, width: int, out: int) -> Made:
    def run(m: Linear, x: Tensor) -> tuple[Tensor, Tensor]:
        y = m(dq(x))
        return q(y, OUT), q(y, _OTHER)

    return run, [Linear(width, out)], [torch.randint(0, 255, (rows, width), dtype=torch.uint8)]


def _padded(channels: int, side: int, groups: int) -> Made:
    """Weights that add up to little, as trained ones do: a large offset would lose bits in the bias."""
    part = Conv(i=channels, o=channels, kernel=3, options={"groups": groups})
    part.weight.codes[..., 0], part.weight.codes[..., 1] = -part.weight.codes[..., 2], 0
    return lambda m, x: q(m(dq(x)), OUT), [part], [_image(channels, side)]


def _sliced(rows: int, width: int, kept: int, times: int) -> Made:
    def run(m: Linear, x: Tensor) -> Tensor:
        y = F.layer_norm(x, (width,))[:, :kept]
        return m(fq(y.expand(times, *y.shape).reshape(-1, kept)))

    return run, [Linear(kept, 16)], [torch.randn(rows, width)]


def _residual(channels: int, side: int, stored: str) -> Made:
    """Codes that only this addition reads, or floats that are read again: a copy must be made for the kernel."""

    def run(m: Conv, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        residual = F.hardswish(y)
        if stored == "codes":
            return (q(m(dq(x)) + fq(residual, OUT), OUT),)
        return q(m(dq(x)) + residual, OUT), residual

    y = torch.randn(1, channels, side, side).contiguous(memory_format=torch.channels_last)
    return run, [Conv(i=channels, o=channels)], [_image(channels, side), y]


DECISIONS = (
    Decision(
        "a tiny layer in int8 or in floats",
        (
            Form("int8", lambda s, n: n.op in ("Gemm", "Matmul")),
            Form("float", lambda s, n: n.op == "QGemm"),
        ),
        _tiny,
        ((1, 16), (256, 768)),
        floats=True,
    ),
    Decision(
        "which of two contractions takes the residual",
        (
            Form("first", lambda s, n: _reads(s, n, _SECOND)),
            Form("second", lambda s, n: _reads(s, n, _FIRST)),
        ),
        _two_branches,
        ((1, 3, 28), (3, 1, 28)),
    ),
    Decision(
        "linears on the same codes: merged or apart",
        (
            Form("merged", lambda s, n: n.op == "QGemm" and not _is_joined(s, n)),
            Form("apart", lambda s, n: _is_joined(s, n)),
        ),
        _three_heads,
        ((1, 256, 64), (2048, 64, 512)),
    ),
    Decision(
        "two readers: compute twice, or quantize one float result twice",
        (
            Form("twice", lambda s, n: n.op == "QGemm" and not _stores_codes(n)),
            Form("once", lambda s, n: _stores_codes(n)),
        ),
        _two_readers,
        ((256, 64, 1024), (256, 8192, 256)),
    ),
    Decision(
        "a zero point in the kernel, or padded and folded into the bias",
        (
            Form("in the kernel", lambda s, n: n.op == "QGemm" and not _has_zero_point(n)),
            Form("folded", lambda s, n: _has_zero_point(n)),
        ),
        _padded,
        ((144, 56, 144), (512, 7, 1)),
    ),
    Decision(
        "quantize before or after a view that copies",
        (
            Form("before", lambda s, n: _moves(s, n, "float32")),
            Form("after", lambda s, n: _moves(s, n, "uint8")),
        ),
        _sliced,
        ((64, 1024, 1024, 16), (2048, 1024, 16, 1)),
    ),
    Decision(
        "a residual summed in place, or added afterwards",
        (
            Form("sum", lambda s, n: n.op == "Add"),
            Form("add", lambda s, n: _adds(n)),
        ),
        _residual,
        ((64, 28, "codes"), (64, 28, "floats")),
    ),
)


def decide(
    settings: Settings, progress: Progress, cost: Source = "estimated", decisions: Sequence[Decision] | None = None
) -> Iterator[Verdict]:
    """Every decision at both of its sizes, at `settings.threads` threads."""
    for decision in DECISIONS if decisions is None else decisions:
        for sizes in decision.sizes:
            progress(f"{decision.name}: {sizes}")
            with threads(settings.threads), torch.no_grad():
                verdict = _decide(decision, sizes, settings, cost)
            yield verdict


def _decide(decision: Decision, sizes: tuple[Any, ...], settings: Settings, cost: Source) -> Verdict:
    torch.manual_seed(settings.seed)
    function, parts, inputs = decision.make(*sizes)
    found = search(capture(build(Net(function, parts), inputs, strict=False)))
    costs, _ = price(cost, found, require=None if decision.floats else "int8")
    calls: dict[str, Call] = {}
    totals: list[float] = []
    for form in decision.forms:
        selection = found.select(_avoiding(found, costs, form))
        totals.append(total(costs, selection.choice))
        calls[form.name] = call_of(found.emit(selection), inputs)
    timings = interleave(calls, settings.rounds)
    first, second = (timings[form.name] for form in decision.forms)
    return Verdict(decision, sizes, (totals[0], totals[1]), speedup(first, second))


def _avoiding(found: Search, costs: Sequence[float], form: Form) -> list[float]:
    snapshot = found.snapshot
    return [c + _DEAR * form.avoids(snapshot, node) for c, node in zip(costs, snapshot.nodes, strict=True)]


def decisions_table(verdicts: Sequence[Verdict]) -> Table:
    rows = tuple(
        (
            each.decision.name,
            " ".join(map(str, each.sizes)),
            " / ".join(f"{cost:.0f}" for cost in each.costs),
            each.chosen,
            f"{each.ratio:.2f}",
            "yes" if each.chosen == each.faster else "NO",
        )
        for each in verdicts
    )
    header = ("choice", "sizes", "estimated µs", "chosen", "time: first / second", "the faster one")
    return Table("Choices that depend on sizes, as the cost model makes them and as timed", header, rows, numbers=False)
