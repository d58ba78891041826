"""Post-ops and their spellings, and what a kernel leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qegraph.coverage.cell import MANY, Left
from qegraph.coverage.parts import OUT, OUT_S8, q
from qegraph.kernels import UNARY_POST_OPS

Fn = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Post:
    """`word` is the kernel table's name of the function."""

    function: Fn
    word: str


POSTS: dict[str, Post] = {
    "relu": Post(F.relu, "relu"),
    "hardtanh": Post(lambda x: F.hardtanh(x, -0.5, 2.0), "clamp"),
    "gelu": Post(F.gelu, "gelu"),
    "gelu-tanh": Post(lambda x: F.gelu(x, approximate="tanh"), "gelu-tanh"),
    "silu": Post(F.silu, "silu"),
    "hardswish": Post(F.hardswish, "hardswish"),
    "leaky_relu": Post(lambda x: F.leaky_relu(x, 0.1), "leaky_relu"),
    "tanh": Post(torch.tanh, "tanh"),
}
NONE = Post(lambda x: x, "identity")

SPELLINGS: dict[str, Post] = {
    "relu_": Post(lambda x: x.relu_(), "relu"),
    "clamp(min=0)": Post(lambda x: x.clamp(min=0), "relu"),
    "clamp_min(0)": Post(lambda x: x.clamp_min(0), "relu"),
    "relu6": Post(F.relu6, "clamp"),
    "clamp(-1, 1)": Post(lambda x: x.clamp(-1, 1), "clamp"),
    "min, max": Post(lambda x: x.clamp_min(0.0).clamp_max(6.0), "clamp"),
    "relu, max": Post(lambda x: F.relu(x).clamp_max(6.0), "clamp"),
    "gelu by erf": Post(lambda x: x * 0.5 * (1.0 + torch.erf(x * 0.7071067811865476)), "gelu"),
    "gelu by erf, half last": Post(lambda x: x * (torch.erf(x * 0.7071067811865476) + 1.0) * 0.5, "gelu"),
    "gelu by erf(x / sqrt 2)": Post(lambda x: 0.5 * x * (1.0 + torch.erf(x / 1.4142135623730951)), "gelu"),
    "gelu by tanh": Post(
        lambda x: 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))), "gelu-tanh"
    ),
    "gelu by tanh, pow": Post(
        lambda x: 0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0)))), "gelu-tanh"
    ),
    "x sigmoid(x)": Post(lambda x: x * torch.sigmoid(x), "silu"),
    "x / (1 + exp(-x))": Post(lambda x: x / (1 + torch.exp(-x)), "silu"),
    "x clamp(x + 3, 0, 6) / 6": Post(lambda x: x * torch.clamp(x + 3, 0, 6) / 6, "hardswish"),
    "x relu6(x + 3) / 6": Post(lambda x: x * F.relu6(x + 3) / 6, "hardswish"),
    "x (relu6(x + 3) / 6)": Post(lambda x: x * (F.relu6(x + 3) / 6), "hardswish"),
    "x hardsigmoid(x)": Post(lambda x: x * F.hardsigmoid(x), "hardswish"),
}

STORES = {"u8": OUT, "s8": OUT_S8, "float": None}
"""How a product is stored: as codes of these parameters, or as it is."""


def stored(x: Tensor, store: str) -> Tensor:
    p = STORES[store]
    return x if p is None else q(x, p)


def after(kind: str, post: Post, store: str) -> Left:
    """What a kernel of this kind leaves: the post-op it doesn't know, and the quantize that follows that."""
    if post.word in ("identity", *UNARY_POST_OPS[kind]):
        return Left()
    return Left(quantize=1 if store == "float" else 2, activations=1, arithmetic=MANY)
