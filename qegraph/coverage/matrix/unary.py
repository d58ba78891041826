"""F11, F12, F15, F16: a product, a post-op, stored as codes or as floats."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import OUT, QP, Conv, Linear, Net, fq, image, q, rows

from .posts import NONE, POSTS, SPELLINGS, Post, after, stored
from .products import ACTIVATIONS


def operands(kind: str, rank: int) -> tuple[nn.Module, Tensor]:
    """The layer and its float input; `rank` is read for linears only."""
    if kind == "linear":
        return Linear(), rows(rank)
    dims = int(kind[4])
    return Conv(dims), image(dims)


def unary(kind: str, post: Post, store: str, dtype: str, rank: int) -> Made:
    part, x = operands(kind, rank)
    return Net(lambda m, x: stored(post.function(m(fq(x, ACTIVATIONS[dtype]))), store), [part]), (x,)


def _cell(name: str, kind: str, post: str, store: str, dtype: str, rank: int, decomposed: bool = False) -> Cell:
    chosen = {**POSTS, **SPELLINGS, "none": NONE}[post]
    make = partial(unary, kind, chosen, store, dtype, rank)
    what = f"{kind}, {post}, to {store}"
    return Cell(name, what, make, after(kind, chosen, store), dtype, rank, decomposed=decomposed)


_CONV_SPELLINGS = ("relu6", "relu_", "clamp(min=0)", "x sigmoid(x)", "x / (1 + exp(-x))", "x clamp(x + 3, 0, 6) / 6")


def _conv_cells(name: str, stores: tuple[str, ...]) -> Iterator[Cell]:
    for post, store in product(POSTS, stores):
        yield _cell(name, "conv2d", post, store, "u8", 4)
    for post in POSTS:
        yield _cell(name, "conv2d", post, stores[0], "u8", 4, decomposed=True)
    for post in _CONV_SPELLINGS:
        yield _cell(name, "conv2d", post, stores[0], "s8", 4)
    for kind, post in product(("conv1d", "conv3d"), ("relu", "silu", "hardtanh")):
        yield _cell(name, kind, post, stores[0], "u8", int(kind[4]) + 2)
    if "u8" in stores:
        for kind, store in product(("conv1d", "conv2d", "conv3d"), stores):
            yield _cell(name, kind, "none", store, "u8", int(kind[4]) + 2)


@family("F11", "convolution, post-op, stored as codes")
def convolution_to_codes() -> Iterator[Cell]:
    yield from _conv_cells("F11", ("u8", "s8"))


@family("F12", "convolution, post-op, stored as floats")
def convolution_to_floats() -> Iterator[Cell]:
    yield from _conv_cells("F12", ("float",))


def _linear_cells(name: str, stores: tuple[str, ...]) -> Iterator[Cell]:
    for post, store in product(POSTS, stores):
        yield _cell(name, "linear", post, store, "s8" if store == "s8" else "u8", 2)
    for post in POSTS:
        yield _cell(name, "linear", post, stores[0], "u8", 3, decomposed=True)
    for post in SPELLINGS:
        yield _cell(name, "linear", post, stores[0], "u8", 3)


@family("F15", "linear, post-op, stored as codes")
def linear_to_codes() -> Iterator[Cell]:
    yield from _linear_cells("F15", ("u8", "s8"))
    for store, rank in product(("u8", "s8"), (2, 3)):
        yield _cell("F15", "linear", "none", store, "u8", rank)


@family("F16", "linear, post-op, stored as floats")
def linear_to_floats() -> Iterator[Cell]:
    yield from _linear_cells("F16", ("float",))


def two_readers(kind: str, post: Post, other: str) -> Made:
    part, x = operands(kind, 2)

    def function(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = post.function(m(fq(x)))
        second = {"float": lambda: h, "same": lambda: F.relu(fq(h, OUT)), "other": lambda: q(h, QP(0.02, 3))}[other]
        return q(h, OUT), second()

    return Net(function, [part]), (x,)


_SECOND = {"float": "a float reader", "same": "an equal quantize", "other": "another quantize"}


@family("two-quantizes", "a product with two readers")
def products_read_twice() -> Iterator[Cell]:
    """The kernel may run twice or its float output be quantized; which is cheaper is not judged."""
    for kind, post, other in product(("linear", "conv2d"), ("relu", "gelu", "none"), _SECOND):
        chosen = {**POSTS, "none": NONE}[post]
        outside = after(kind, chosen, "u8")
        same = int(other == "same")
        left = Left(4 if outside.activations else 3, same, outside.activations + same, outside.arithmetic)
        make = partial(two_readers, kind, chosen, other)
        yield Cell("two-quantizes", f"{kind}, {post}, codes and {_SECOND[other]}", make, left, users=2)
