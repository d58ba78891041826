"""Linears and convolutions that torch has decomposed become the same kernels."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import (
    OUT,
    Conv,
    Linear,
    Weight,
    borders,
    checked,
    decomposed,
    fq,
    net,
    post_ops,
    q,
    rows,
)
from torch import Tensor, nn


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_decomposed_linear(rank: int, bias: bool) -> None:
    x = rows(rank)
    fast = checked(decomposed(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear(bias=bias)], [x]), [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rank", [3, 4])
def test_decomposed_linear_not_contiguous(rank: int, bias: bool) -> None:
    x = rows(rank).transpose(0, rank - 2).contiguous()
    gm = decomposed(lambda m, x: q(F.relu(m(fq(x).transpose(0, rank - 2))), OUT), [Linear(bias=bias)], [x])
    fast = checked(gm, [x])
    assert post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


def test_decomposed_shared_expand() -> None:
    """q, k and v of one non-contiguous activation."""
    x = rows(3).transpose(0, 1).contiguous()

    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor) -> list[Tensor]:
        h = fq(x).transpose(0, 1)
        return [q(each(h), b.FULL_OUT) for each in (k, m, n)]

    fast = checked(decomposed(function, [Linear() for _ in "kmn"], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_decomposed_conv(dims: int) -> None:
    x = b.image(dims)
    fast = checked(decomposed(lambda m, x: q(m(fq(x)), OUT), [Conv(dims)], [x]), [x])
    assert post_ops(fast) == [""] and borders(fast) == (1, 0)


def test_addmm_with_factors_is_not_a_plain_linear() -> None:
    x, y = rows(2), rows(2, 16)[:1]
    gm = net(lambda w, x, y: torch.addmm(y, fq(x), w().t(), beta=2, alpha=3), [Weight(16, 24)], [x, y])
    checked(gm, [x, y])


def test_matmul_with_the_weight_stored_the_other_way() -> None:
    """Codes (K, N) with scales along N."""
    x = rows(2)
    checked(net(lambda w, x: torch.matmul(fq(x), w()), [Weight(24, 16, axis=1)], [x]), [x])


def test_decomposed_as_torch_does() -> None:
    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
        h = F.gelu(m(fq(x.transpose(0, 1))).transpose(0, 1)).flatten(0, 1)
        return [q(F.silu(n(fq(h.unsqueeze(1).expand(-1, 2, -1)[..., :8])) + 1).softmax(-1), OUT), F.relu6(k(fq(y)))]

    parts, inputs = [Conv(), Linear(), Linear(8)], [rows(3), b.image()]
    ours, torchs = decomposed(function, parts, inputs), b.decomposed_by_torch(function, parts, inputs)
    called = [[node.target for node in each.graph.nodes if node.op == "call_function"] for each in (ours, torchs)]
    assert called[0] == called[1] and torch.ops.aten.addmm.default in called[0]
    assert all(map(torch.equal, ours(*inputs), torchs(*inputs)))
