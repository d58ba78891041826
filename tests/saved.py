"""Small q/dq graphs whose optimised forms hold, together, every kind of thing that a file or an export has to carry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import builders as b
import torch
import torch.nn.functional as F
from builders import OUT, QP, Conv, Linear, fq, net, q
from torch import Tensor, fx, nn

import qegraph

Case = tuple[fx.GraphModule, tuple[Any, ...]]


class Half(nn.Module):
    """A linear whose weight is stored as float16."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Buffer(torch.randn(512, 256).half())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w.float())


class Named(nn.Module):
    """Nested arguments, given by position and by name, and nested results."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(), Linear()

    def forward(self, pair: tuple[Tensor, dict[str, Tensor]], *, scale: Tensor) -> dict[str, Any]:
        x, more = pair
        y = self.first(fq(x))
        return {"both": [y, self.second(fq(more["y"]))], "scaled": y * scale, "none": None}


class Mixed(nn.Module):
    """A part under autocast, which stays a sub-graph of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.plain = Linear(), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(fq(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = self.plain(y)
        return z.float()


def rows(*sizes: int) -> Tensor:
    return torch.randn(*sizes, 24) * 2


def _linears() -> Case:
    x = rows(2, 5)
    return net(lambda m, n, x: q(F.relu(m(fq(x)) + fq(n(fq(x)), QP(0.05, 101))), OUT), [Linear(), Linear()], [x]), (x,)


def _float_sum() -> Case:
    x, y = rows(2, 5), torch.randn(2, 5, 16)
    return net(lambda m, n, x, y: m(fq(x)) + F.silu(n(fq(x)) * y), [Linear(), Linear()], [x, y]), (x, y)


def _convs() -> Case:
    x = b.image()
    part = [Conv(), Conv()]
    return net(lambda m, n, x: fq(F.relu(m(fq(x)) + fq(n(fq(x)), QP(0.05, 101))), OUT), part, [x]), (x,)


def _conv_float_sum() -> Case:
    x, y = b.image(), b.image()
    return net(lambda m, x, y: m(fq(x)) + y, [Conv()], [x, y]), (x, y)


def _clamped() -> Case:
    x = rows(2, 5)
    return net(lambda m, x: m(fq(fq(x).clamp(-0.5, 1.0))), [Linear()], [x]), (x,)


def _conv1d() -> Case:
    x = b.image(1)
    return net(lambda m, x: F.relu(m(fq(x))), [Conv(1)], [x]), (x,)


def _half() -> Case:
    x = torch.randn(64, 256)
    return net(lambda m, x: m(x), [Half()], [x]), (x,)


def _batches() -> Case:
    x = b.image()
    model = b.Net(lambda m, n, x: n(fq(F.relu(m(fq(x))).flatten(1), OUT)), [Conv(), Linear(8 * 49)])
    return b.build(model, [x], (({0: torch.export.Dim("batch", max=64)},),), strict=False), (x,)


def _mixed() -> Case:
    x = rows(4)
    return b.build(Mixed(), [x], strict=False), (x,)


CASES: Mapping[str, Callable[[], Case]] = {
    "linears": _linears,
    "float sum": _float_sum,
    "convolutions": _convs,
    "convolution's float sum": _conv_float_sum,
    "clamped codes": _clamped,
    "conv1d": _conv1d,
    "half weight": _half,
    "any batch": _batches,
    "autocast": _mixed,
}


@functools.cache
def optimized(name: str) -> Case:
    """The optimised graph, which is nobody's to change, and its inputs."""
    torch.manual_seed(0)
    gm, inputs = CASES[name]()
    return qegraph.optimize(gm, cost=b.int8_first), inputs
