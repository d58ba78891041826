"""D9 to D13: what the reference passes get wrong about views, transposed convolutions, pools and concatenations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from qegraph.coverage.cell import Cell, Made, family
from qegraph.coverage.parts import IN, IN_S8, QP, Conv, Linear, Net, Weight, dq, fq, image, q

Fn = Callable[..., Any]
BOOLS = (False, True)


def regrouped(function: Fn, k: int, shape: tuple[int, ...]) -> Made:
    return Net(function, [Linear(k)]), (torch.randn(shape),)


@family("D9", "defect: views that regroup")
def regrouping_views() -> Iterator[Cell]:
    inner = partial(regrouped, lambda m, x: m(fq(x).reshape(12, 4)), 4, (6, 8))
    outer = partial(regrouped, lambda m, x: m(fq(x).reshape(6, 24)).reshape(3, 2, 16), 24, (2, 3, 24))
    for decomposed in BOOLS:
        yield Cell("D9", "of the inner size", inner, None, decomposed=decomposed)
        yield Cell("D9", "of the outer sizes", outer, None, rank=3, decomposed=decomposed)


def transposed(dims: int) -> Made:
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    return Net(lambda w, x: function(fq(x), w(), padding=1), [Weight(8, 8, *[3] * dims)]), (image(dims),)


@family("D10", "defect: transposed convolution")
def transposed_convolutions() -> Iterator[Cell]:
    for dims, decomposed in product((1, 2, 3), BOOLS):
        yield Cell("D10", f"conv{dims}d", partial(transposed, dims), None, rank=dims + 2, decomposed=decomposed)


def of_int8(dims: int) -> Made:
    return Net(lambda m, x: F.relu(m(dq(x, IN_S8))), [Conv(dims)]), (q(image(dims), IN_S8),)


def pooled(one: QP, other: QP) -> Made:
    return Net(lambda x: q(F.max_pool2d(fq(x, one), 3, 2, 1), other)), (image(),)


@family("D11", "defect: int8 into convolutions and max-pools")
def int8_activations() -> Iterator[Cell]:
    for dims in (1, 2, 3):
        yield Cell("D11", f"conv{dims}d", partial(of_int8, dims), None, "s8", dims + 2)
    yield Cell("D11", "max_pool2d", partial(pooled, IN_S8, IN_S8), None, "s8", 4, "")


@family("D12", "defect: max-pool that requantizes")
def requantizing_pools() -> Iterator[Cell]:
    for p in (QP(0.1, 20), QP(0.031, 90), QP(0.031, 113, 0, 127), IN_S8):
        yield Cell("D12", f"to {p.scale} {p.zp} {p.lo}..{p.hi}", partial(pooled, IN, p), None, "u8", 4, "")


def both_signs() -> Made:
    one, other = QP(0.05, 10), QP(0.05, 10, -128, 127, torch.int8)
    codes = q(torch.randn(3, 8), one), q(torch.randn(3, 8), other)
    return Net(lambda x, y: q(torch.cat([dq(x, one), dq(y, other)], 1), one)), codes


@family("D13", "defect: concatenation of uint8 and int8")
def mixed_concatenations() -> Iterator[Cell]:
    yield Cell("D13", "equal parameters", both_signs, None, "u8 and s8", 2, "")
