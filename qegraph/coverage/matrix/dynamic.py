"""F7, F8: products of an activation whose scale and zero point are computed in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
from torch import Tensor

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import Net, qd

from .binary import SUMS
from .posts import NONE, POSTS, Post, after
from .unary import operands

RANGES = {"u8": (0, 255, torch.uint8), "s8": (-128, 127, torch.int8)}
EPS = 2**-12


def dynamic(x: Tensor, dtype: str) -> Tensor:
    """dequantize(quantize(x)) with parameters chosen from x."""
    lo, hi, codes = RANGES[dtype]
    scale, zp = qd.choose_qparams.tensor(x, lo, hi, EPS, codes)
    quantized = qd.quantize_per_tensor.tensor(x, scale, zp, lo, hi, codes)
    return qd.dequantize_per_tensor.tensor(quantized, scale, zp, lo, hi, codes)


def unary(kind: str, post: Post, dtype: str, rank: int) -> Made:
    part, x = operands(kind, rank)
    return Net(lambda m, x: post.function(m(dynamic(x, dtype))), [part]), (x,)


def residual(total: str, rank: int) -> Made:
    part, x = operands("linear", rank)
    return Net(lambda m, x, y: SUMS[total](m(dynamic(x, "u8")), y), [part]), (x, torch.randn_like(part(x)))


def shared(rank: int) -> Made:
    parts = [operands("linear", rank)[0] for _ in range(3)]

    def function(k: torch.nn.Module, m: torch.nn.Module, n: torch.nn.Module, x: Tensor) -> list[Tensor]:
        h = dynamic(x, "u8")
        return [k(h), m(h), n(h)]

    return Net(function, parts), (operands("linear", rank)[1],)


@family("F7", "linear of a dynamically quantized activation")
def dynamic_linears() -> Iterator[Cell]:
    posts = {"none": NONE, **POSTS}
    for post, (rank, decomposed) in product(posts, ((2, False), (3, True))):
        make = partial(unary, "linear", posts[post], "u8", rank)
        yield Cell("F7", f"linear, {post}", make, Left(), "u8", rank, "dynamic", decomposed=decomposed)
    for post in ("none", "relu"):
        yield Cell("F7", f"linear, {post}", partial(unary, "linear", posts[post], "s8", 2), Left(), "s8", 2, "dynamic")
    for total, rank in product(SUMS, (2, 3)):
        yield Cell("F7", f"linear, {total}", partial(residual, total, rank), Left(), "u8", rank, "dynamic")
    for rank, decomposed in product((2, 3), (False, True)):
        make = partial(shared, rank)
        axes = ("u8", rank, "dynamic", 1, "shared activation")
        yield Cell("F7", "3 linear", make, Left(), *axes, decomposed=decomposed)


@family("F8", "convolution of a dynamically quantized activation")
def dynamic_convolutions() -> Iterator[Cell]:
    posts = {"none": NONE, **{name: POSTS[name] for name in ("relu", "hardtanh", "silu", "hardswish", "gelu")}}
    for kind, post in product(("conv1d", "conv2d", "conv3d"), posts):
        left = after(kind, posts[post], "float")
        make = partial(unary, kind, posts[post], "u8", 0)
        for decomposed in (False, True) if (kind, post) == ("conv2d", "relu") else (False,):
            yield Cell("F8", f"{kind}, {post}", make, left, "u8", int(kind[4]) + 2, "dynamic", decomposed=decomposed)
