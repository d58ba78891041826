"""Residuals: which are added by the kernel, in every position, spelling and layout, and what nobody may overwrite."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, QP, RETURNS, Conv, Fn, Linear, borders, checked, decomposed, fq, net, out, post_ops, q, rows
from torch import Tensor, nn

ADDS: dict[str, tuple[Fn, str]] = {
    "m + y": (lambda a, y: a + y, "add"),
    "y + m": (lambda a, y: y + a, "add"),
    "relu(m + y)": (lambda a, y: F.relu(a + y), "add+relu"),
    "relu(y + m)": (lambda a, y: F.relu(y + a), "add+relu"),
}


@RETURNS
@pytest.mark.parametrize("name", ADDS)
@pytest.mark.parametrize("rank", [2, 3])
def test_linear_float_residual(rank: int, name: str, quantized: bool) -> None:
    function, fused = ADDS[name]
    x, y = rows(rank), rows(rank, 16)
    fast = checked(net(lambda m, x, y: out(function(m(fq(x)), y), quantized), [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", ADDS)
@pytest.mark.parametrize("part", [Linear, Conv])
def test_residual_of_codes(part: Callable[..., nn.Module], name: str) -> None:
    """Both branches are int8 kernels; the residual has the output's dtype and its own scale."""
    function, fused = ADDS[name]
    x = rows(2) if part is Linear else b.image()
    other = QP(0.05, 101)
    gm = net(lambda m, n, x: q(function(m(fq(x)), fq(n(fq(x)), other)), OUT), [part(), part()], [x])
    fast = checked(gm, [x])
    assert sorted(post_ops(fast)) == sorted(["", fused]) and borders(fast) == (1, 0)


@pytest.mark.parametrize("name", ADDS)
def test_conv_float_residual(name: str) -> None:
    function, fused = ADDS[name]
    x, y = b.image(), b.image()
    fast = checked(net(lambda m, x, y: function(m(fq(x)), y), [Conv()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)


@pytest.mark.parametrize("part", [Linear, Conv])
def test_residual_of_other_codes(part: Callable[..., nn.Module]) -> None:
    """int8 residual, uint8 output: the kernel can't add the codes, whatever it does must be right."""
    x, y = (rows(2), rows(2, 16)) if part is Linear else (b.image(), b.image())
    gm = net(lambda m, x, y: q(F.relu(m(fq(x)) + fq(y, b.IN_S8)), OUT), [part()], [x, y])
    assert len(post_ops(checked(gm, [x, y]))) == 1


BROADCASTS = [(16,), (1, 16), (5, 16), (1, 5, 16), (2, 1, 16), (1, 5, 1), (2, 5, 1), (1, 1, 1), (1, 1, 16)]


@pytest.mark.parametrize("shape", BROADCASTS, ids=str)
@RETURNS
def test_broadcast_residual(shape: tuple[int, ...], quantized: bool) -> None:
    """At rank 3 the kernel's own broadcast is silently wrong for half of these."""
    x, y = rows(3), torch.randn(shape)
    fast = checked(net(lambda m, x, y: out(m(fq(x)) + y, quantized), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1 and borders(fast) == (1, 0)


def test_product_broadcasts_to_the_residual() -> None:
    x, y = torch.randn(1, 24), torch.randn(5, 16)
    fast = checked(net(lambda m, x, y: q(m(fq(x)) + y, OUT), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


def test_residual_is_transposed() -> None:
    x, y = torch.randn(5, 24), torch.randn(16, 5)
    fast = checked(net(lambda m, x, y: m(fq(x)) + y.t(), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


def test_residual_is_a_view_of_an_input() -> None:
    x, y = torch.randn(2, 24), b.image()
    gm = net(lambda m, x, y: m(fq(y)) + y.view(2, 8, 7, 7) + x.sum(), [Conv()], [x, y])
    assert len(post_ops(checked(gm, [x, y]))) == 1


STRIDED: dict[str, tuple[tuple[int, ...], Fn]] = {
    "transposed 0, 1": ((5, 2, 16), lambda y: y.transpose(0, 1)),
    "transposed 1, 2": ((2, 16, 5), lambda y: y.transpose(1, 2)),
    "rows skipped": ((2, 9, 16), lambda y: y[:, :5]),
    "columns skipped": ((2, 5, 32), lambda y: y[..., ::2]),
    "expanded": ((2, 1, 16), lambda y: y.expand(2, 5, 16)),
}


@RETURNS
@pytest.mark.parametrize("name", STRIDED)
def test_strided_residual(name: str, quantized: bool) -> None:
    """The kernel reads a residual of rank 3 as if it were contiguous, past its end if it is expanded."""
    shape, view = STRIDED[name]
    x, y = rows(3), torch.randn(shape)
    fast = checked(net(lambda m, x, y: out(m(fq(x)) + view(y), quantized), [Linear()], [x, y]), [x, y])
    assert len(post_ops(fast)) == 1


@pytest.mark.parametrize("name", ["transposed 0, 1", "rows skipped"])
def test_residual_input_is_strided_in_the_call_only(name: str) -> None:
    """Strides are no part of an exported signature: a contiguous example promises nothing about later calls."""
    shape, view = STRIDED[name]
    x, y = rows(3), torch.randn(2, 5, 16)
    gm = net(lambda m, x, y: m(fq(x)) + y, [Linear()], [x, y])
    b.agrees(gm, checked(gm, [x, y]), [x, view(torch.randn(shape))])


def test_inputs_of_convolution_are_strided_in_the_call_only() -> None:
    x, y = b.image(), b.image()
    gm = net(lambda m, x, y: m(fq(x)) + y, [Conv()], [x, y])
    fast = checked(gm, [x, y])
    last = torch.channels_last
    b.agrees(gm, fast, [b.image().contiguous(memory_format=last), b.image().contiguous(memory_format=last)])
    b.agrees(gm, fast, [b.image().transpose(2, 3), b.image().transpose(2, 3)])


def _summed(m: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    return q(m(fq(x)) + b.dq(residual, OUT), OUT)


def _returned(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), r


def _view_returned(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), r.view(-1)


def _read_later(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), b.dq(r, OUT).sum()


def _own_activation(m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
    r = q(m(fq(x)), OUT)
    return q(n(b.dq(r, OUT)) + b.dq(r, OUT), OUT)


def _two_sums(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r = q(m(fq(x)), OUT)
    return _summed(n, x, r), _summed(n, x * 0.5, r)


@pytest.mark.parametrize("function", [_returned, _view_returned, _read_later, _own_activation, _two_sums])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_sum_never_overwrites_what_is_read_again(part: Callable[..., nn.Module], function: Callable[..., Any]) -> None:
    x = rows(2, 16) if part is Linear else b.image()
    parts = [Linear(16, 16), Linear(16, 16)] if part is Linear else [Conv(), Conv()]
    fast = checked(net(function, parts, [x]), [x])
    assert sorted(post_ops(fast)) in (["", "add"], ["", "add", "add"], [""])  # or both as one, where x is read twice


@pytest.mark.parametrize("part", [Linear, Conv])
def test_sum_of_codes_that_are_an_input(part: Callable[..., nn.Module]) -> None:
    x, y = (rows(2), rows(2, 16)) if part is Linear else (b.image(), b.image())
    codes = q(y, OUT)
    fast = checked(net(_summed, [part()], [x, codes]), [x, codes])
    assert post_ops(fast) == ["add"] and borders(fast) == (1, 0)


def test_reduction_that_overflows_the_accumulator_stays_float() -> None:
    x = torch.randn(2, 70_000)
    b.stays_float(checked(net(lambda m, x: m(fq(x)), [Linear(70_000, 2)], [x]), [x]))


def test_chain_of_residuals() -> None:
    """A float stream to which every block adds: read twice each time, so nothing may be overwritten too early."""
    x = rows(2, 16)

    def function(k: nn.Module, m: nn.Module, n: nn.Module, x: Tensor) -> Tensor:
        h = k(fq(x)) + x
        h = h + m(fq(h))
        return h + n(fq(h))

    fast = checked(net(function, [Linear(16, 16) for _ in range(3)], [x]), [x])
    assert post_ops(fast) == ["add"] * 3 and borders(fast) == (3, 0)


@pytest.mark.parametrize("name", ["m + y", "relu(y + m)"])
def test_decomposed_residual(name: str) -> None:
    function, fused = ADDS[name]
    x, y = rows(3), rows(3, 16)
    fast = checked(decomposed(lambda m, x, y: q(function(m(fq(x)), y), OUT), [Linear()], [x, y]), [x, y])
    assert post_ops(fast) == [fused] and borders(fast) == (1, 0)
