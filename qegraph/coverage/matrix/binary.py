"""F13, F14, F17, F18: a product plus a residual, perhaps a relu, stored as codes or as floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import IN_S8, QP, Conv, Linear, Net, dq, fq, q
from qegraph.kernels import RESIDUALS

from .posts import stored
from .unary import operands

OTHER = QP(0.05, 101)
SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "m + y": lambda a, y: a + y,
    "y + m": lambda a, y: y + a,
    "relu(m + y)": lambda a, y: F.relu(a + y),
    "relu(y + m)": lambda a, y: F.relu(y + a),
}
RESIDUAL_KINDS = ("input", "codes", "s8 codes", "product", "stored product", "broadcast", "codes read again")


def _residual(name: str, y: Tensor, other: Tensor) -> Tensor:
    """The residual as the graph has it, from the second input and another product."""
    choices: dict[str, Callable[[], Tensor]] = {
        "codes": lambda: dq(y, OTHER),
        "codes read again": lambda: dq(y, OTHER),
        "s8 codes": lambda: dq(y, IN_S8),
        "product": lambda: other,
        "stored product": lambda: fq(other, OTHER),
    }
    return choices[name]() if name in choices else y


def residual(kind: str, name: str, total: str, store: str, rank: int) -> Made:
    part, x = operands(kind, rank)
    second, _ = operands(kind, rank)
    y = torch.randn_like(part(x))
    if name == "broadcast":
        y = y[..., :1, :] if kind == "linear" else y[:1]
    if "codes" in name:
        y = q(y, IN_S8 if name == "s8 codes" else OTHER)

    def function(m: nn.Module, n: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        h = fq(x)
        other = n(h) if "product" in name else h
        z = stored(SUMS[total](m(h), _residual(name, y, other)), store)
        return (z, y.flatten()) if name == "codes read again" else (z,)

    return Net(function, [part, second]), (x, y)


def _left(kind: str, name: str, store: str, relu: bool) -> Left:
    """The residual is added as it is stored where a kernel does that, else dequantized, else outside."""
    codes = name in ("codes", "stored product", "codes read again")
    out = "real" if store == "float" else "codes"
    if codes and store == "u8" and (kind, "codes", "codes") in RESIDUALS:
        return Left()
    dequantize = int(codes or name == "s8 codes")
    if (kind, "real", out) in RESIDUALS:
        return Left(dequantize=dequantize)
    quantize = 1 + (out == "codes")
    if (kind, "real", "real") in RESIDUALS:
        return Left(quantize, dequantize)
    return Left(quantize + (name == "stored product"), dequantize, activations=relu, arithmetic=1)


def _cells(family_name: str, kind: str, store: str, ranks: tuple[int, ...]) -> Iterator[Cell]:
    written = [(total, rank, False) for total, rank in product(SUMS, ranks[:1])]
    written += [("m + y", rank, False) for rank in ranks[1:]] + [("relu(y + m)", ranks[-1], True)]
    for name, (total, rank, decomposed) in product(RESIDUAL_KINDS, written):
        left = _left(kind, name, store, "relu" in total)
        make = partial(residual, kind, name, total, store, rank)
        users = 2 if name == "codes read again" else 1
        what = f"{kind}, {total} with y {name}, to {store}"
        yield Cell(family_name, what, make, left, rank=rank, users=users, decomposed=decomposed)


@family("F13", "convolution plus a residual, stored as codes")
def convolution_residual_to_codes() -> Iterator[Cell]:
    yield from _cells("F13", "conv2d", "u8", (4,))
    for kind, total in product(("conv1d", "conv3d"), ("m + y", "relu(y + m)")):
        for name in ("input", "codes"):
            make = partial(residual, kind, name, total, "u8", 0)
            left = _left(kind, name, "u8", "relu" in total)
            yield Cell("F13", f"{kind}, {total} with y {name}, to u8", make, left, rank=int(kind[4]) + 2)


@family("F14", "convolution plus a residual, stored as floats")
def convolution_residual_to_floats() -> Iterator[Cell]:
    yield from _cells("F14", "conv2d", "float", (4,))


@family("F17", "linear plus a residual, stored as codes")
def linear_residual_to_codes() -> Iterator[Cell]:
    yield from _cells("F17", "linear", "u8", (2, 3))


@family("F18", "linear plus a residual, stored as floats")
def linear_residual_to_floats() -> Iterator[Cell]:
    yield from _cells("F18", "linear", "float", (2, 3))


def stream(kind: str, blocks: int) -> Made:
    """x + f(q(x)) again and again: every sum is read twice."""
    parts = [Linear(16, 16) if kind == "linear" else Conv() for _ in range(blocks)]

    def function(*args: Any) -> Tensor:
        *layers, h = args
        for layer in layers:
            h = h + layer(fq(h))
        return h

    return Net(function, parts), (torch.randn(2, 16) if kind == "linear" else torch.randn(2, 8, 7, 7),)


@family("residual-stream", "blocks that add to a float stream")
def residual_streams() -> Iterator[Cell]:
    for kind, blocks in product(("linear", "conv2d"), (2, 3)):
        make = partial(stream, kind, blocks)
        yield Cell("residual-stream", f"{blocks} {kind}", make, Left(quantize=blocks), users=2)
