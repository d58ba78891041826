"""Batch normalization and average-pooling of codes."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import math
from collections.abc import Callable

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, IN_S8, OUT, QP, borders, checked, decomposed_by_torch, fq, has, net, q
from torch import Tensor, nn

import qegraph
from qegraph.cost import WIDE
from qegraph.snapshot import ENode, Snapshot

ZERO_LOW = b.usual(QP(0.02, 0))
FASTER = "qbatch_norm2d.default" if WIDE else "qconv_pointwise.default"
MAKES = pytest.mark.parametrize("make", [net, decomposed_by_torch], ids=["exported", "decomposed"])


def norm(channels: int = 8) -> nn.Module:
    made = nn.BatchNorm2d(channels).eval()
    for tensor in (made.weight, made.bias, made.running_mean, made.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.2, 2.0)
    return made


@MAKES
@pytest.mark.parametrize("p", [OUT, ZERO_LOW], ids=str)
def test_batch_norm_of_codes(make: b.Make, p: QP) -> None:
    x = b.image()
    fast = checked(make(lambda n, x: q(n(fq(x)), p), [norm()], [x]), [x])
    assert b.kinds(fast) == ["qbatch_norm2d.default"] and borders(fast) == (1, 0)


def test_batch_norm_in_floats() -> None:
    x = b.image()
    fast = checked(net(lambda n, x: n(fq(x)), [norm()], [x]), [x])
    assert b.kinds(fast) == ["qbatch_norm2d.default"] and borders(fast) == (1, 0)


def test_relu_is_the_saturation_where_the_lowest_code_is_zero() -> None:
    x = b.image()
    fast = checked(net(lambda n, x: q(F.relu(n(fq(x))), ZERO_LOW), [norm()], [x]), [x])
    assert b.kinds(fast) == ["qbatch_norm2d.default"] and not has(fast, "relu")
    fast = checked(net(lambda n, x: q(F.relu(n(fq(x))), b.FULL_OUT), [norm()], [x]), [x])
    assert has(fast, "relu") + has(fast, "clamp") == 1


def as_convolution(snapshot: Snapshot, node: ENode) -> float:
    return math.inf if node.op == "QBatchNorm" else b.int8_first(snapshot, node)


@pytest.mark.parametrize("f", [torch.clone, F.relu, F.relu6, F.silu])
@pytest.mark.parametrize("p", [b.FULL_OUT, QP(0.02, 0), None], ids=str)
def test_batch_norm_as_a_convolution(p: QP | None, f: Callable[[Tensor], Tensor]) -> None:
    """It takes in what follows, as any contraction does."""
    x = b.image()
    gm = net(lambda n, x: q(f(n(fq(x))), p) if p else f(n(fq(x))), [norm()], [x])
    fast = qegraph.optimize(gm, cost=as_convolution)
    b.agrees(gm, fast, [x])
    assert b.kinds(fast) == ["qconv_pointwise.default"] and borders(fast) == (1, 0)
    assert not any(has(fast, name) for name in ("relu", "clamp", "silu", "norm"))
    assert "1 batch norm: 1 int8" in str(qegraph.explain(fast))


def test_batch_norm_as_a_convolution_adds_a_residual() -> None:
    x = b.image()
    gm = net(lambda n, x: q(F.relu(n(fq(x)) + fq(x)), b.FULL), [norm()], [x])
    fast = qegraph.optimize(gm, cost=as_convolution)
    b.agrees(gm, fast, [x])
    assert b.kinds(fast) == ["qconv2d_pointwise.binary"] and borders(fast) == (1, 0)


def test_default_rates_choose_the_faster_kernel_for_a_batch_norm() -> None:
    """Without AVX-512 the one of its own takes one code after another: only small images are left to it."""
    for size, kind in ((5, "qbatch_norm2d.default"), (60, FASTER)):
        x = torch.randn(1, 8, size, size)
        gm = net(lambda n, x: q(n(fq(x)), OUT), [norm()], [x])
        assert b.kinds(qegraph.optimize(gm)) == [kind]


@pytest.mark.parametrize("case", ["int8", "float", "one row", "training"])
def test_batch_norm_the_kernel_does_not_know(case: str) -> None:
    x = torch.randn(4, 8) if case == "one row" else b.image()
    p = IN_S8 if case == "int8" else IN
    module = nn.BatchNorm1d(8).eval() if case == "one row" else norm()
    if case == "training":
        gm = net(lambda x: q(F.batch_norm(fq(x), None, None, training=True), OUT), [], [x])
    else:
        gm = net(lambda n, x: q(n(x if case == "float" else fq(x, p)), OUT), [module], [x])
    is_convolution = case == "int8" and b.READS_INT8
    assert b.kinds(checked(gm, [x])) == (["qconv_pointwise.default"] if is_convolution else [])


def test_dense_block_stays_in_codes() -> None:
    """cat(x, f(x)) again and again, everything stored under one scale: no code is ever made a float."""

    def block(*args: nn.Module | Tensor) -> Tensor:
        *parts, x = args
        grown = fq(x)  # type: ignore[arg-type]
        for normalize, conv in zip(parts[::2], parts[1::2], strict=True):
            hidden = fq(F.relu(normalize(grown)), ZERO_LOW)  # type: ignore[operator]
            grown = fq(torch.cat([grown, fq(conv(hidden))], 1))  # type: ignore[operator]
        return q(grown)

    parts: list[nn.Module] = []
    for channels in (8, 16, 24):
        parts += [norm(channels), b.Conv(2, channels, 8)]
    x = b.image()
    fast = checked(net(block, parts, [x]), [x])
    assert borders(fast) == (1, 0) and has(fast, "cat") == 3
    assert sorted(set(b.kinds(fast))) == ["qbatch_norm2d.default", "qconv_pointwise.default"]


POOLS = {
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 7),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "mean, negative dims": lambda x: x.mean((-1, -2)),
    "3x3": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "3x3 overlapping": lambda x: F.avg_pool2d(x, 3, 1),
}


@MAKES
@pytest.mark.parametrize("name", POOLS)
def test_average_pool_of_codes(make: b.Make, name: str) -> None:
    x = b.image(channels=512)
    fast = checked(make(lambda x: q(POOLS[name](fq(x)), b.FULL), [], [x]), [x])
    assert b.kinds(fast) == ["qconv_pointwise.default"] and borders(fast) == (1, 0)


NOT_POOLS = {
    "even": lambda x: F.avg_pool2d(x, 2),
    "border not counted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "divisor": lambda x: F.avg_pool2d(x, 3, divisor_override=5),
    "uneven": lambda x: F.adaptive_avg_pool2d(x, 3),
    "one dim": lambda x: x.mean(2),
}


@pytest.mark.parametrize("name", NOT_POOLS)
def test_average_pool_that_stays(name: str) -> None:
    x = b.image(channels=512)
    assert b.kinds(checked(net(lambda x: q(NOT_POOLS[name](fq(x)), IN), [], [x]), [x])) == []
