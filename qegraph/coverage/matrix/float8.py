"""F27: products of fp8 (e4m3) codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Made, family
from qegraph.coverage.parts import Net, image, rows

from .posts import NONE, POSTS, Post, after

E4M3 = torch.float8_e4m3fn


def _dq(codes: Tensor, scale: float) -> Tensor:
    return torch.ops.torchao.dequantize_affine_float8_non_decomposed.default(codes, torch.tensor([scale]))


def _q(x: Tensor, scale: float) -> Tensor:
    return torch.ops.torchao.quantize_affine_float8_non_decomposed.default(x, torch.tensor([scale]))


def product_of_fp8(kind: str, post: Post, store: str, rank: int) -> Made:
    import_module("torchao.quantization")  # registers the fp8 operators

    shape = (16, 24) if kind == "linear" else (8, 8, 3, 3)
    parameters = nn.ParameterList([torch.randn(shape[0])])
    parameters.register_buffer("codes", (torch.randn(shape) * 4).to(E4M3))

    def function(p: Any, x: Tensor) -> Tensor:
        h, w = _dq(_q(x, 0.5), 0.5), _dq(p.codes, 0.05)
        y = post.function(F.linear(h, w, p[0]) if kind == "linear" else F.conv2d(h, w, p[0], padding=1))
        return _q(y, 0.25) if store == "fp8" else y

    return Net(function, [parameters]), (rows(rank) if kind == "linear" else image(),)


@family("F27", "products of fp8 codes")
def fp8() -> Iterator[Cell]:
    """None where torchao, which has the operators, is not installed."""
    if find_spec("torchao") is None:
        return
    posts = {"none": NONE, **{name: POSTS[name] for name in ("relu", "gelu", "silu")}}
    for kind, post, store in product(("linear", "conv2d"), posts, ("fp8", "float")):
        left = after(kind, posts[post], "float")  # an fp8 output is rounded twice by the kernel: off unless named
        left = replace(left, quantize=left.quantize + (store == "fp8"))
        for rank in ((2, 3) if post == "relu" else (2,)) if kind == "linear" else (4,):
            make = partial(product_of_fp8, kind, posts[post], store, rank)
            yield Cell("F27", f"{kind}, {post}, to {store}", make, left, "fp8", rank, "per-tensor", decomposed=True)
