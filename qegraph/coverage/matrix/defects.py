"""D1 to D8, D14: what the reference passes get wrong. Fused or left float are both right, if the numbers agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Made, family
from qegraph.coverage.parts import OUT, QP, WIDE, Conv, Linear, Net, fq, image, q, rows

from .half import HALVES, mixed
from .posts import NONE, POSTS
from .unary import operands

Fn = Callable[..., Any]
KINDS = ("linear", "conv2d")
RANK = {"linear": 2, "conv2d": 4}
BOOLS = (False, True)


def over(kind: str, function: Fn, spread: float = 1.0, wide: bool = False) -> Made:
    """function(layer, layer, x, y) with y of the layer's output shape; `wide` layers keep the number of features."""
    if wide and kind == "linear":
        part, second, x = Linear(16, 16), Linear(16, 16), rows(2, 16)
    else:
        (part, x), (second, _) = operands(kind, 2), operands(kind, 2)
    return Net(function, [part, second]), (x * spread, torch.randn_like(part(x)))


def _cells(name: str, functions: dict[str, Fn], spread: float = 1.0, wide: bool = False) -> Iterator[Cell]:
    for what, kind in product(functions, KINDS):
        yield Cell(name, f"{kind}, {what}", partial(over, kind, functions[what], spread, wide), None, rank=RANK[kind])


def _stored(p: QP) -> Fn:
    return lambda m, n, x, y: q(m(fq(x)), p)


@family("D1", "defect: output range narrower than the dtype")
def narrow_ranges() -> Iterator[Cell]:
    ranges = (QP(0.01, 60, 0, 127), QP(0.01, 3, -127, 127, torch.int8), QP(0.01, 100, 20, 200))
    yield from _cells("D1", {f"to {p.lo}..{p.hi}": _stored(p) for p in ranges}, spread=4.0)


def _returned(m: nn.Module, n: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    h = m(fq(x))
    return h, n(fq(x)) + h


@family("D2", "defect: residual that others read is overwritten")
def overwritten() -> Iterator[Cell]:
    functions: dict[str, Fn] = {"input": lambda m, n, x, y: m(fq(x)) + y, "returned": _returned}
    functions["stream"] = lambda m, n, x, y: n(fq(F.relu(m(fq(x))), OUT)) + x
    yield from _cells("D2", functions, wide=True)


@family("D3", "defect: unary fused, then a sum")
def unary_then_sum() -> Iterator[Cell]:
    functions: dict[str, Fn] = {
        "relu(m) + y": lambda m, n, x, y: F.relu(m(fq(x))) + y,
        "gelu(m) + y": lambda m, n, x, y: F.gelu(m(fq(x))) + y,
        "relu(m) + relu(n)": lambda m, n, x, y: F.relu(m(fq(x))) + F.relu(n(fq(x))),
        "relu(n(h)) + h": lambda m, n, x, y: [F.relu(n(fq(h))) + h for h in [m(fq(x))]],
        "m + m": lambda m, n, x, y: [h + h for h in [m(fq(x))]],
    }
    yield from _cells("D3", functions, wide=True)


def _scaled(alpha: float, other_side: bool, store: bool) -> Fn:
    def function(m: nn.Module, n: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        h = m(fq(x))
        total = torch.add(y, h, alpha=alpha) if other_side else torch.add(h, y, alpha=alpha)
        return q(total, OUT) if store else total

    return function


@family("D4", "defect: alpha of an addition")
def alphas() -> Iterator[Cell]:
    functions: dict[str, Fn] = {}
    for alpha, (other_side, store) in product((2, 0.5, -1), ((False, True), (True, False))):
        what = f"{'y + alpha m' if other_side else 'm + alpha y'}, alpha {alpha}, to {'codes' if store else 'float'}"
        functions[what] = _scaled(alpha, other_side, store)
    yield from _cells("D4", functions)


@family("D5", "defect: fp16 and bf16 casts")
def half_casts() -> Iterator[Cell]:
    for kind, dtype, written, post in product(KINDS, HALVES, ("casts", "autocast"), ("none", "relu")):
        make = partial(mixed, kind, {"none": NONE, **POSTS}[post], written, dtype, "half")
        yield Cell("D5", f"{kind}, {post}, {written}", make, None, dtype, RANK[kind], decomposed=True)


@family("D6", "defect: out_dtype of a dequantize")
def out_dtypes() -> Iterator[Cell]:
    for kind, dtype, post in product(KINDS, HALVES, ("none", "relu")):
        make = partial(mixed, kind, {"none": NONE, **POSTS}[post], "out_dtype", dtype, "half")
        yield Cell("D6", f"{kind}, {post}", make, None, dtype, RANK[kind])


def weighted(kind: str, dtype_scale: float | None, zp: int, axis: int) -> Made:
    part = Linear(16, 16, zp=zp, axis=axis, scale=dtype_scale) if kind == "linear" else Conv(zp=zp, axis=axis)
    return Net(lambda m, x: m(fq(x)), [part]), (rows(2, 16) if kind == "linear" else image(),)


@family("D7", "defect: zero point of a weight")
def weight_zero_points() -> Iterator[Cell]:
    for kind, scale in product(KINDS, (None, 0.01)):
        what, qparams = f"{kind}, zero point 5", "per-tensor" if scale else "per-channel"
        yield Cell("D7", what, partial(weighted, kind, scale, 5, 0), None, qparams=qparams)


@family("D8", "defect: weight scales along the inputs")
def scale_axes() -> Iterator[Cell]:
    for kind in KINDS:
        yield Cell("D8", f"{kind}, axis 1", partial(weighted, kind, None, 0, 1), None)


@family("D14", "defect: quantize to int16 and int32")
def wide_codes() -> Iterator[Cell]:
    for dtype, post in product(WIDE, ("none", "relu")):
        p, chosen = QP(0.01, 7, *WIDE[dtype], dtype), {"none": NONE, **POSTS}[post]
        yield from _cells("D14", {f"{post}, to {str(dtype).removeprefix('torch.')}": _wide(chosen.function, p)})


def _wide(function: Callable[[Tensor], Tensor], p: QP) -> Fn:
    return lambda m, n, x, y: q(function(m(fq(x))), p)
