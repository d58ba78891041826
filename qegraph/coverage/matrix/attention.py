"""F31, and F28, F30, for which this torch has no kernel: products that share an activation, embeddings, attention."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import OUT, QP, Linear, Net, Weight, fq, q, rows

STORES = {"float": (None,) * 3, "equal codes": (OUT,) * 3, "own codes": (OUT, QP(0.02, 3), QP(0.05, 130))}


def query_key_value(rank: int, bias: bool, store: str, relu: bool) -> Made:
    def function(*args: Any) -> list[Tensor]:
        h = fq(args[-1])
        found = [F.relu(part(h)) if relu else part(h) for part in args[:-1]]
        return [y if p is None else q(y, p) for y, p in zip(found, STORES[store], strict=True)]

    return Net(function, [Linear(bias=bias) for _ in range(3)]), (rows(rank),)


def cut_in_three(rank: int, bias: bool, store: str, heads: bool) -> Made:
    def function(part: Any, x: Tensor) -> list[Tensor]:
        found = part(fq(x)).chunk(3, -1)
        if heads:
            found = [y.unflatten(-1, (4, 4)).transpose(-3, -2) for y in found]
        return [y if p is None else q(y, p) for y, p in zip(found, STORES[store], strict=True)]

    return Net(function, [Linear(n=48, bias=bias)]), (rows(rank),)


@family("F31", "query, key and value as one product")
def merged() -> Iterator[Cell]:
    """One kernel has one output scale: what is stored under three stays, or becomes, three kernels."""
    for rank, bias, store, heads in product((2, 3), (False, True), STORES, (False, True)):
        left = Left(gemms=3 if store == "own codes" else 1)
        what = f"1 linear{' + bias' if bias else ''} cut in 3{', heads' if heads else ''}, to {store}"
        make = partial(cut_in_three, rank, bias, store, heads)
        for decomposed in (False, True):
            yield Cell("F31", what, make, left, rank=rank, decomposed=decomposed)
    for rank, bias, store, relu in product((2, 3), (False, True), STORES, (False, True)):
        left = Left(gemms=3 if store == "own codes" else 1)
        what = f"3 linear{' + bias' if bias else ''}{', relu' if relu else ''}, to {store}"
        make = partial(query_key_value, rank, bias, store, relu)
        yield Cell("F31", what, make, left, rank=rank, sharing="shared activation")


def embedding(store: bool) -> Made:
    def function(w: Any, i: Tensor, o: Tensor) -> Tensor:
        y = F.embedding_bag(i, w(), o, mode="sum")
        return q(y) if store else y

    return Net(function, [Weight(30, 8, scale=0.01)]), (torch.randint(30, (12,)), torch.tensor([0, 5, 9]))


@family("F28", "embedding bag")
def embeddings() -> Iterator[Cell]:
    for store in (False, True):
        what = f"sum, to {'codes' if store else 'float'}"
        yield Cell("F28", what, partial(embedding, store), None, "s8", 2, "per-tensor")


def attention(store: bool) -> Made:
    def function(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        a = fq(torch.softmax(torch.matmul(fq(x), fq(y).transpose(-1, -2)) * 0.25, -1), QP(1 / 255, 0))
        h = torch.matmul(a, fq(z))
        return q(h) if store else h

    return Net(function), tuple(torch.randn(2, 4, 5, 8) for _ in range(3))


@family("F30", "attention of codes")
def attentions() -> Iterator[Cell]:
    for store in (False, True):
        yield Cell("F30", f"to {'codes' if store else 'float'}", partial(attention, store), None, "u8", 4, "")
