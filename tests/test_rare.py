"""Elementwise kernels on codes: used only where the running machine computes them right."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
from builders import IN, IN_S8, OUT, OUT_S8, QP, checked, fq, has, net, q
from torch import Tensor

import qegraph
from qegraph import kernels

COMBINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "qadd": lambda x, y: x + y,
    "qadd_relu": lambda x, y: torch.relu(x + y),
    "qmul": lambda x, y: y * x,
}


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the kernels passed their self-test."""
    monkeypatch.setattr(kernels, "elementwise_is_right", lambda name: True)


def graph(name: str, p: QP = IN, out: QP = OUT, shape: tuple[int, ...] = (3, 37)) -> tuple[Any, list[Tensor]]:
    inputs = [torch.randn(3, 37) * 2, torch.randn(shape)]
    return net(lambda x, y: q(COMBINED[name](fq(x, p), fq(y, QP(0.02, 99))), out), [], inputs), inputs


@pytest.mark.parametrize("name", COMBINED)
def test_verdict_of_the_self_test(name: str) -> None:
    """Some large codes in whole vectors, and exact ties, say the same."""
    kernel = getattr(torch.ops.onednn, name).tensor
    x, y = (torch.randint(128, 256, (1024,), dtype=torch.uint8) for _ in range(2))
    wrong = 0
    for scale, out in ((0.03, 0.07), (0.5, 1.0)):
        zero = 0 if scale == 0.5 else 140
        real = COMBINED[name]((x.double() - zero) * scale, (y.double() - zero) * scale)
        wanted = (real / out).round().clamp(0, 255)
        found = kernel(x, scale, zero, y, scale, zero, out, 0, torch.uint8)
        wrong += int((found.double() != wanted).sum())
    assert kernels.elementwise_is_right(name) <= (
        wrong <= 1
    )  # which tries lengths that are no multiple of a vector, too


@pytest.mark.parametrize("name", COMBINED)
def test_without_the_verdict_nothing_fires(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "elementwise_is_right", lambda name: False)
    gm, inputs = graph(name)
    assert b.kinds(checked(gm, inputs)) == []


@pytest.mark.parametrize("name", COMBINED)
def test_with_the_verdict(name: str, right: None) -> None:
    """The numbers are only compared where the kernel is right; below 128 it is, but for ties."""
    gm, inputs = graph(name)
    fast = qegraph.optimize(gm)
    assert b.kinds(fast) == [f"{name}.tensor"] and b.borders(fast) == (2, 0)
    wanted, found = gm(*inputs), fast(*inputs)
    assert (wanted.dtype, wanted.shape) == (found.dtype, found.shape)
    small = (q(inputs[0]) < 128) & (q(inputs[1], QP(0.02, 99)) < 128)
    assert int((wanted.int() - found.int())[small].abs().max()) <= 1 and small.any()


@pytest.mark.parametrize("case", ["int8 in", "int8 out", "narrow out", "broadcast", "one shape"])
def test_guards(case: str, right: None) -> None:
    options: dict[str, dict[str, Any]] = {
        "int8 in": {"p": IN_S8},
        "int8 out": {"out": OUT_S8},
        "narrow out": {"out": QP(0.05, 3, 0, 127)},
        "broadcast": {"shape": (37,)},
        "one shape": {},
    }
    gm, _ = graph("qadd", **options[case])
    fast = qegraph.optimize(gm)
    if case == "narrow out":
        assert b.kinds(fast) == ["qadd.tensor"] and has(fast, "clamp") == 1
    else:
        assert b.kinds(fast) == (["qadd.tensor"] if case == "one shape" else [])
