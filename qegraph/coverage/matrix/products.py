"""F1 to F6: a linear or a convolution of dequantized codes, alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import IN, IN_S8, Conv, Linear, Net, fq, image, q, rows

ACTIVATIONS = {"u8": IN, "s8": IN_S8}
WEIGHTS: dict[str, dict[str, Any]] = {"per-channel": {}, "per-tensor": {"scale": 0.003}}
OPTIONS: dict[str, dict[str, int]] = {
    "": {},
    "stride 2": {"stride": 2},
    "dilation 2": {"dilation": 2},
    "groups 4": {"groups": 4},
    "depthwise": {"groups": 8},
}
BOOLS = (False, True)


def conv(dims: int, options: str, dtype: str, bias: bool, qparams: str) -> Made:
    part = Conv(dims, bias=bias, options=OPTIONS[options], **WEIGHTS[qparams])
    return Net(lambda m, x: m(fq(x, ACTIVATIONS[dtype])), [part]), (image(dims),)


def _conv_cells(name: str, dims: int) -> Iterator[Cell]:
    kept = [(options, dtype, True, False) for options, dtype in product(OPTIONS, ACTIVATIONS)]
    kept += [(options, "u8", True, True) for options in OPTIONS]
    kept += [("", dtype, False, False) for dtype in ACTIVATIONS]
    for options, dtype, bias, decomposed in kept:
        what = f"conv{dims}d{' ' + options if options else ''}{' + bias' if bias else ''}"
        make = partial(conv, dims, options, dtype, bias, "per-channel")
        yield Cell(name, what, make, Left(), dtype, dims + 2, decomposed=decomposed)
    make = partial(conv, dims, "", "u8", True, "per-tensor")
    yield Cell(name, f"conv{dims}d + bias", make, Left(), "u8", dims + 2, "per-tensor")


@family("F2", "convolution in 1 and 2 dimensions")
def convolutions() -> Iterator[Cell]:
    yield from _conv_cells("F2", 1)
    yield from _conv_cells("F2", 2)


@family("F3", "convolution in 3 dimensions")
def convolutions_3d() -> Iterator[Cell]:
    yield from _conv_cells("F3", 3)


def linear(rank: int, dtype: str, bias: bool, qparams: str, transposed: bool) -> Made:
    part = Linear(bias=bias, **WEIGHTS[qparams])
    p = ACTIVATIONS[dtype]
    if transposed:
        x = rows(rank).transpose(0, rank - 2).contiguous()
        return Net(lambda m, x: m(fq(x, p).transpose(0, rank - 2)), [part]), (x,)
    return Net(lambda m, x: m(fq(x, p)), [part]), (rows(rank),)


def _linear_cells(name: str, ranks: tuple[int, ...], transposed: bool = False) -> Iterator[Cell]:
    for rank, dtype, bias, decomposed in product(ranks, ACTIVATIONS, BOOLS, BOOLS):
        what = f"linear{' + bias' if bias else ''}{' of transposed' if transposed else ''}"
        make = partial(linear, rank, dtype, bias, "per-channel", transposed)
        yield Cell(name, what, make, Left(), dtype, rank, decomposed=decomposed)
    for rank, decomposed in product(ranks, BOOLS):
        make = partial(linear, rank, "u8", True, "per-tensor", transposed)
        yield Cell(name, "linear + bias", make, Left(), "u8", rank, "per-tensor", decomposed=decomposed)


@family("F4", "linear of rank 2")
def linears() -> Iterator[Cell]:
    yield from _linear_cells("F4", (2,))


@family("F5", "linear of rank 3 and 4, contiguous")
def linears_of_higher_rank() -> Iterator[Cell]:
    yield from _linear_cells("F5", (3, 4))


@family("F6", "linear of rank 3 and 4, transposed")
def transposed_linears() -> Iterator[Cell]:
    yield from _linear_cells("F6", (3, 4), transposed=True)


def shared(kind: str, count: int, also_float: bool, view: bool) -> Made:
    parts: list[nn.Module] = [Linear(bias=i > 0) if kind == "linear" else Conv() for i in range(count)]

    def function(*args: Any) -> list[Tensor]:
        h = fq(args[-1])
        h = h.transpose(0, 1) if view else h
        return [part(h) for part in args[:-1]] + ([F.relu(h)] if also_float else [])

    return Net(function, parts), (rows(3).transpose(0, 1).contiguous() if kind == "linear" else image(),)


@family("F1", "dequantize shared by several users")
def shared_dequantize() -> Iterator[Cell]:
    for kind, count, also_float, decomposed in product(("linear", "conv2d"), (2, 3), BOOLS, BOOLS):
        view = kind == "linear" and decomposed
        what = f"{count} {kind}{', and a float reader' if also_float else ''}{', through a transpose' if view else ''}"
        left = Left(dequantize=also_float, activations=also_float)
        make = partial(shared, kind, count, also_float, view)
        rank = 3 if kind == "linear" else 4
        yield Cell("F1", what, make, left, rank=rank, sharing="shared activation", decomposed=decomposed)


def tied(kind: str, store: bool) -> Made:
    def function(m: Any, x: Tensor) -> list[Tensor]:
        w, first, second = m.weight(), fq(x), fq(x * 0.5)
        call = F.linear if kind == "linear" else F.conv2d
        found = [call(first, w), call(second, w, m.bias)]
        return [q(each) for each in found] if store else found

    return Net(function, [Linear() if kind == "linear" else Conv()]), (rows(2) if kind == "linear" else image(),)


@family("tied-weight", "one dequantized weight read by two products")
def tied_weights() -> Iterator[Cell]:
    for kind, store, decomposed in product(("linear", "conv2d"), BOOLS, BOOLS):
        what = f"{kind} twice, {'codes' if store else 'float'}"
        left = Left(quantize=2, arithmetic=1)  # x * 0.5 is the graph's own
        yield Cell("tied-weight", what, partial(tied, kind, store), left, sharing="tied weight", decomposed=decomposed)
