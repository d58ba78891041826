"""D1 to D14: what the reference passes get wrong. Fused or left float are both right here, as long as numbers agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Made, family
from qegraph.coverage.parts import IN, IN_S8, OUT, QP, WIDE, Conv, Linear, Net, Weight, dq, fq, image, q, rows

from .half import HALVES, mixed
from .posts import NONE, POSTS
from .unary import operands

Fn = Callable[..., Any]
KINDS = ("linear", "conv2d")
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
        yield Cell(name, f"{kind}, {what}", partial(over, kind, functions[what], spread, wide), None)


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
        yield Cell("D5", f"{kind}, {post}, {written}", make, None, dtype, decomposed=True)


@family("D6", "defect: out_dtype of a dequantize")
def out_dtypes() -> Iterator[Cell]:
    for kind, dtype, post in product(KINDS, HALVES, ("none", "relu")):
        make = partial(mixed, kind, {"none": NONE, **POSTS}[post], "out_dtype", dtype, "half")
        yield Cell("D6", f"{kind}, {post}", make, None, dtype)


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


@family("D14", "defect: quantize to int16 and int32")
def wide_codes() -> Iterator[Cell]:
    for dtype, post in product(WIDE, ("none", "relu")):
        p, chosen = QP(0.01, 7, *WIDE[dtype], dtype), {"none": NONE, **POSTS}[post]
        yield from _cells("D14", {f"{post}, to {str(dtype).removeprefix('torch.')}": _wide(chosen.function, p)})


def _wide(function: Callable[[Tensor], Tensor], p: QP) -> Fn:
    return lambda m, n, x, y: q(function(m(fq(x))), p)
