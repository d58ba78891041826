"""F9, F26: weights rounded to fp16, and int8 products within bf16 and fp16 graphs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import IN, OUT, Net, Weight, dq, fq, image, q, qd, rows

from .posts import NONE, POSTS, Post

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WRITTEN = ("casts", "out_dtype", "autocast")
BOOLS = (False, True)


def _product(kind: str, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, w, bias) if kind == "linear" else F.conv2d(x, w, bias, padding=1)


def mixed(kind: str, post: Post, written: str, dtype: str, to: str) -> Made:
    """The product and the post-op in half precision; stored like that or as codes, or plus another half."""
    half = HALVES[dtype]
    weight = Weight(*((16, 24) if kind == "linear" else (8, 8, 3, 3)))
    weight.out_dtype = half if written == "out_dtype" else None
    bias = nn.ParameterList([torch.randn(weight.codes.shape[0]).to(torch.float32 if written == "autocast" else half)])
    x = torch.randn(64, 24) * 2 if kind == "linear" else image(batch=4)  # enough for a mean error to mean something

    def inner(w: Any, b: Any, x: Tensor) -> Tensor:
        if written == "out_dtype":
            return post.function(_product(kind, dq(q(x), IN, half), w(), b[0]))
        if written == "casts":
            return post.function(_product(kind, fq(x).to(half), w().to(half), b[0]))
        with torch.autocast("cpu", dtype=half):
            return post.function(_product(kind, fq(x), w(), b[0]))

    def function(w: Any, b: Any, x: Tensor, y: Tensor) -> Tensor:
        h = inner(w, b, x)
        if to == "residual":
            return h + y
        return q(h if written == "out_dtype" else h.float(), OUT) if to == "u8" else h

    y = torch.randn(_product(kind, x, weight().float(), bias[0].float()).shape).to(half)
    return Net(function, [weight, bias]), (x, y)


@family("F26", "int8 products in bf16 and fp16 graphs")
def mixed_precision() -> Iterator[Cell]:
    posts = {"none": NONE, **POSTS}
    for kind, dtype, written in product(("linear", "conv2d"), HALVES, WRITTEN):
        rank = 2 if kind == "linear" else 4
        wanted = [("relu", "half"), ("none", "residual")]
        if dtype == "bf16":
            wanted += [("none", "half"), ("gelu" if kind == "linear" else "silu", "half"), ("relu", "u8")]
        for post, to in wanted:
            make = partial(mixed, kind, posts[post], written, dtype, to)
            decomposed = written != "out_dtype"
            left = Left(arithmetic=2) if (kind, dtype) == ("conv2d", "fp16") else Left()  # which stores no fp16
            yield Cell("F26", f"{kind}, {post}, to {to}, {written}", make, left, dtype, rank, decomposed=decomposed)


def fp16_weight(rank: int, bias: bool, relu: bool, written: str, transposed: bool) -> Made:
    parameters = nn.ParameterList([torch.randn(16, 24), *([torch.randn(16)] if bias else [])])

    def function(p: Any, x: Tensor) -> Tensor:
        w = p[0]
        if written == "casts":
            w = w.to(torch.float16).to(torch.float32)
        else:
            cast = qd.convert_element_type.no_fuse
            w = cast(cast(w, torch.float16), torch.float32)
        y = F.linear(x.transpose(0, 1) if transposed else x, w, p[1] if bias else None)
        return F.relu(y) if relu else y

    return Net(function, [parameters]), (rows(rank),)


@family("F9", "linear of floats with a weight rounded to fp16")
def fp16_weights() -> Iterator[Cell]:
    left = Left(quantize=0)
    spellings = (("no_fuse", False), ("no_fuse", True), ("casts", False))
    for rank, bias, relu, (written, decomposed) in product((2, 3), BOOLS, BOOLS, spellings):
        what = f"linear{' + bias' if bias else ''}{', relu' if relu else ''}, {written}"
        make = partial(fp16_weight, rank, bias, relu, written, False)
        yield Cell("F9", what, make, left, "fp32", rank, "fp16 weight", decomposed=decomposed)
    for bias, relu in product(BOOLS, BOOLS):
        what = f"linear{' + bias' if bias else ''}{', relu' if relu else ''}, of transposed"
        make = partial(fp16_weight, 3, bias, relu, "no_fuse", True)
        yield Cell("F9", what, make, left, "fp32", 3, "fp16 weight", decomposed=True)
