"""F19 to F21, F25, F29 and beyond: what stands between quantized operators and can be done on the codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import IN, IN_S8, OUT, QP, Conv, Linear, Net, dq, fq, image, q, rows

Fn = Callable[[Tensor], Tensor]
SIDES = {"u8": IN, "s8": IN_S8}
NOTHING = Left(quantize=0)

POOLS: dict[str, Fn] = {
    "2": lambda x: F.max_pool2d(x, 2),
    "3, stride 2, padding 1": lambda x: F.max_pool2d(x, 3, 2, 1),
    "2, dilation 2": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    "3, stride 2, ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "(3, 1)": lambda x: F.max_pool2d(x, (3, 1), (2, 1)),
}
VIEWS: dict[str, Fn] = {
    "reshape": lambda x: x.reshape(2, 4, 98),
    "flatten": lambda x: x.flatten(1),
    "transpose": lambda x: x.transpose(1, 2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute, view": lambda x: x.permute(0, 2, 3, 1).reshape(2, 49, 8),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[:, :, :1].squeeze(2),
    "expand": lambda x: x.unsqueeze(1).expand(2, 3, 8, 7, 7),
}
CUTS: dict[str, Fn] = {
    "slice": lambda x: x[:, 2:6],
    "slice with step": lambda x: x[..., ::2],
    "select": lambda x: x[:, 3],
    "split": lambda x: torch.split(x, 4, 1)[1],
    "chunk": lambda x: x.chunk(2, 1)[0],
    "pad": lambda x: F.pad(x, (1, 1, 1, 1)),
    "contiguous": lambda x: x.transpose(1, 2).contiguous(),
    "flip": lambda x: x.flip(1),
    "channel shuffle": lambda x: x.view(2, 2, 4, 7, 7).transpose(1, 2).reshape(2, 8, 7, 7),
}
RELUS: dict[str, Fn] = {"relu": F.relu, "relu6": F.relu6, "clamp": lambda x: x.clamp(-1.0, 1.0)}


def over_codes(function: Fn, p: QP) -> Made:
    """codes -> dq -> function -> q -> codes"""
    return Net(lambda x: q(function(dq(x, p)), p)), (q(image(), p),)


def _over_codes(name: str, functions: dict[str, Fn], what: str = "") -> Iterator[Cell]:
    for spelling, (dtype, decomposed) in product(functions, (("u8", False), ("s8", False), ("u8", True))):
        make = partial(over_codes, functions[spelling], SIDES[dtype])
        yield Cell(name, f"{what}{spelling}", make, NOTHING, dtype, 4, "", decomposed=decomposed)


@family("F19", "max-pool")
def max_pools() -> Iterator[Cell]:
    yield from _over_codes("F19", POOLS, "max_pool2d ")


def concatenated(count: int, dim: int, p: QP, reads: str) -> Made:
    def function(*codes: Tensor) -> Tensor:
        joined = torch.cat([dq(x, p) for x in codes], dim) if reads == "codes" else dq(torch.cat(codes, dim), p)
        return q(joined, p)

    return Net(function), tuple(q(image(), p) for _ in range(count))


@family("F20", "concatenation")
def concatenations() -> Iterator[Cell]:
    for count, dim, dtype, decomposed in product((2, 3), (1, -1), SIDES, (False, True)):
        make = partial(concatenated, count, dim, SIDES[dtype], "codes")
        yield Cell("F20", f"{count} along {dim}", make, NOTHING, dtype, 4, "", decomposed=decomposed)


@family("F29", "concatenation of codes, dequantized and quantized again")
def concatenated_codes() -> Iterator[Cell]:
    for count, dtype in product((2, 3), SIDES):
        make = partial(concatenated, count, 1, SIDES[dtype], "cat")
        yield Cell("F29", f"{count} along 1", make, NOTHING, dtype, 4, "")


@family("F21", "views of codes")
def views() -> Iterator[Cell]:
    yield from _over_codes("F21", VIEWS)


def lifted(kind: str, p: QP, view: Fn) -> Made:
    """product -> views -> q: the quantize belongs to the product"""
    part, x = (Linear(), rows(3)) if kind == "linear" else (Conv(), image())
    return Net(lambda m, x: q(view(m(fq(x))), p), [part]), (x,)


HEADS: dict[str, Fn] = {
    "view, transpose": lambda x: x.view(2, 5, 4, 4).transpose(1, 2),
    "transpose": lambda x: x.transpose(1, 2),
    "reshape, permute, reshape": lambda x: x.reshape(2, 5, 2, 8).permute(2, 0, 1, 3).reshape(2, 10, 8),
}
PATCHES: dict[str, Fn] = {
    "flatten, transpose": lambda x: x.flatten(2).transpose(1, 2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
}


@family("F25", "quantize after views of a product")
def lifted_quantizes() -> Iterator[Cell]:
    for kind, functions in (("linear", HEADS), ("conv2d", PATCHES)):
        for name, dtype, decomposed in product(functions, ("u8", "s8"), (False, True)):
            p = OUT if dtype == "u8" else QP(0.037, -37, -128, 127, torch.int8)
            make = partial(lifted, kind, p, functions[name])
            rank = 3 if kind == "linear" else 4
            yield Cell("F25", f"{kind}, {name}, to {dtype}", make, Left(), rank=rank, decomposed=decomposed)


@family("relu-of-codes", "a clamp between dequantize and quantize")
def relu_of_codes() -> Iterator[Cell]:
    yield from _over_codes("relu-of-codes", RELUS)


@family("cut-of-codes", "slices, splits, pads and copies of codes")
def cuts_of_codes() -> Iterator[Cell]:
    yield from _over_codes("cut-of-codes", CUTS)
