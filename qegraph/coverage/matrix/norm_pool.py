"""F33, and beyond: batch normalization, average pool, and requantization."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import IN_S8, OUT, QP, Net, dq, fq, image, q, rows
from qegraph.kernels import optional_kernels

from .codes import NOTHING, SIDES, Fn

AVERAGES: dict[str, Fn] = {
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "avg_pool2d 7": lambda x: F.avg_pool2d(x, 7),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "mean, flat": lambda x: x.mean((-1, -2)),
    "3, stride 2, padding 1": lambda x: F.avg_pool2d(x, 3, 2, 1),
}
EVEN: dict[str, Fn] = {"2": lambda x: F.avg_pool2d(x, 2), "border": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)}


def averaged(function: Fn) -> Made:
    """512 channels: the sum of codes is exact, so a tie is as likely as one in the window's size."""
    return Net(lambda x: q(function(fq(x)))), (image(channels=512),)


@family("average-pool", "average pool")
def average_pools() -> Iterator[Cell]:
    for name, decomposed in product(AVERAGES, (False, True)):
        make = partial(averaged, AVERAGES[name])
        yield Cell("average-pool", name, make, Left(), rank=4, qparams="", decomposed=decomposed)
    for name in EVEN:
        yield Cell("average-pool", name, partial(averaged, EVEN[name]), None, rank=4, qparams="")


def requantized(one: QP, other: QP) -> Made:
    return Net(lambda x: q(dq(x, one), other)), (q(rows(3), one),)


@family("requantize", "codes to codes of other parameters")
def requantizations() -> Iterator[Cell]:
    """Only the same parameters are a matter of moving codes; others need arithmetic, which no kernel has."""
    others = (QP(0.031, 112), QP(0.0311, 113), QP(0.05, 7), QP(0.031, 113, 0, 127), IN_S8)
    for dtype, p in SIDES.items():
        yield Cell("requantize", "the same", partial(requantized, p, p), NOTHING, dtype, 3, "")
        for other in others:
            if other != p:
                what = f"to {other.scale} {other.zp} {other.lo}..{other.hi}"
                yield Cell("requantize", what, partial(requantized, p, other), None, dtype, 3, "")


ZERO_LOW = QP(0.02, 0)
NORMS: dict[str, tuple[Fn, QP | None, Left | None]] = {
    "to codes": (lambda x: x, OUT, Left()),
    "to floats": (lambda x: x, None, Left()),
    "relu, lowest code 0": (F.relu, ZERO_LOW, Left()),
    "relu": (F.relu, OUT, Left(quantize=2, activations=1)),
    "to s8": (lambda x: x, IN_S8, Left(quantize=2)),
}


def normalized(function: Fn, out: QP | None, dtype: str) -> Made:
    norm = nn.BatchNorm2d(8).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.2, 2.0)

    def net(n: nn.Module, x: Tensor) -> Tensor:
        y = function(n(fq(x, SIDES[dtype])))
        return y if out is None else q(y, out)

    return Net(net, [norm]), (image(),)


@family("F33", "batch normalization")
def norms() -> Iterator[Cell]:
    present = "qbatch_norm2d" in optional_kernels()
    for name, dtype, decomposed in product(NORMS, SIDES, (False, True)):
        function, out, left = NORMS[name]
        able = left if present and dtype == "u8" else None
        make = partial(normalized, function, out, dtype)
        yield Cell("F33", name, make, able, dtype, 4, "", decomposed=decomposed)
