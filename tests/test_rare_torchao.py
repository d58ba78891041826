"""Kernels of torchao that this wheel lacks: without them nothing happens; with a reference in their place, all does."""

# pyright: reportUnknownLambdaType=false, reportMissingTypeStubs=false
from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, IN_S8, OUT, QP, agrees, checked, fq, has, net, q
from torch import Tensor, nn

import qegraph
from qegraph.load_rules import shipped

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # what torchao couldn't load
    pytest.importorskip("torchao.ops")  # registers the operators
    logging.disable(logging.NOTSET)

A, V = QP(1 / 255, 0), QP(0.02, 120)


def reference_bag(
    w: Tensor, indices: Tensor, offsets: Tensor, scale: Tensor, o_scale: float, mode: int, with_end: bool, dtype: Any
) -> Tensor:
    assert mode == 0 and with_end and (offsets.diff() > 0).all()
    sums = F.embedding_bag(indices, w.float(), offsets, mode="sum", include_last_offset=True) * (scale / o_scale)
    return sums if dtype == torch.float32 else sums.round().clamp(-128, 127).to(dtype)


def reference_attention(
    x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool, scale: float | None,
    *params: Any,
) -> Tensor:  # fmt: skip
    assert dropout == 0 and not causal and scale is not None
    x, key, value = (
        (each.float() - zero) * s for each, s, zero in zip((x, key, value), params[0::2], params[1::2], strict=False)
    )
    scores = x @ key.transpose(-1, -2) * scale + (0 if mask is None else mask)
    a_scale, a_zero, o_scale, o_zero = params[6:]
    codes = ((scores.softmax(-1) / a_scale).round() + a_zero).clamp(0, 255)
    y = (codes - a_zero) * a_scale @ value
    return ((y / o_scale).round() + o_zero).clamp(0, 255).to(torch.uint8)


def reference_linear4(
    x: Tensor, scales: Tensor, zeros: Tensor, w: Tensor, w_scales: Tensor, w_zeros: Tensor, compensation: Tensor,
    bias: Tensor | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Low halves of the bytes hold the first half of a block's outputs; one group of inputs."""
    codes = torch.cat([w & 15, w >> 4], -1).flatten(1, 2).float()
    real = (codes - w_zeros) * w_scales
    y = (x.float() - zeros) * scales @ real.transpose(1, 2).flatten(0, 1).T
    return (y if bias is None else y + bias).to(dtype)


@pytest.fixture
def kernels() -> Iterator[None]:
    """The reference implementations, under the operators' names."""
    library = torch.library.Library("torchao", "IMPL")
    library.impl("_scaled_embedding_bag", reference_bag, "CPU")
    library.impl("da8w4_linear_cpu", reference_linear4, "CPU")
    library.impl("qscaled_dot_product", reference_attention, "CPU")
    yield
    del library  # takes its implementations with it


def bag(weight: b.Weight, codes: bool = False, **options: Any) -> tuple[Any, list[Tensor]]:
    indices, offsets = torch.randint(0, 40, (12,)), torch.tensor([0, 3, 4, 9, 12])
    settings: dict[str, Any] = {"mode": "sum", "include_last_offset": True, **options}

    def run(w: nn.Module, indices: Tensor, offsets: Tensor) -> Tensor:
        y = F.embedding_bag(indices, w(), offsets, **settings)
        return q(y, QP(0.01, 0, -128, 127, torch.int8)) if codes else y

    return net(run, [weight], [indices, offsets]), [indices, offsets]


@pytest.mark.parametrize("codes", [False, True], ids=["float", "int8"])
def test_embedding_bag(codes: bool, kernels: None) -> None:
    gm, inputs = bag(b.Weight(40, 16, scale=0.002), codes)
    fast = qegraph.optimize(gm, rules=shipped())
    agrees(gm, fast, inputs)
    assert has(fast, "_scaled_embedding_bag") == 1 and b.borders(fast) == (0, 0)


def test_embedding_bag_is_off_by_default(kernels: None) -> None:
    """The kernel reads a row of an empty bag too."""
    gm, inputs = bag(b.Weight(40, 16, scale=0.002))
    fast = checked(gm, inputs)
    assert not has(fast, "_scaled_embedding_bag") and "off by default" in b.stays_float(fast)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mean": ({"scale": 0.002}, {"mode": "mean"}),
    "padding": ({"scale": 0.002}, {"padding_idx": 3}),
    "zero point": ({"scale": 0.002, "zp": 3}, {}),
    "scales per row": ({}, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_embedding_bag_that_stays(case: str, kernels: None) -> None:
    weight, options = REFUSED[case]
    gm, inputs = bag(b.Weight(40, 16, **weight), **options)
    fast = qegraph.optimize(gm, rules=shipped())
    agrees(gm, fast, inputs)
    assert not has(fast, "_scaled_embedding_bag")


@pytest.mark.parametrize("name", ["scaled_embedding_bag", "qscaled_dot_product"])
def test_without_the_kernel_nothing_fires(name: str) -> None:
    made = bag(b.Weight(40, 16, scale=0.002), True) if "bag" in name else attention(0.25, masked=True)
    fast = qegraph.optimize(made[0], rules=shipped())
    agrees(made[0], fast, made[1])
    assert not has(fast, "torchao")
    assert f"this torch has no {name} for this CPU" in str(qegraph.explain(fast))


def attention(
    scale: float | None,
    masked: bool = False,
    p: QP = IN,
    a: tuple[QP, QP] = (A, A),
    out: QP = OUT,
    divide: bool = False,
) -> tuple[Any, list[Tensor]]:
    x, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    mask = torch.randn(2, 1, 5, 5)

    def run(x: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = fq(x, p) @ fq(k, p).transpose(-1, -2)
        if scale is not None:
            scores = scores / (1 / scale) if divide else scores * scale
        if masked:
            scores = scores + mask
        return q(b.dq(q(scores.softmax(-1), a[0]), a[1]) @ fq(v, V), out)

    return net(run, [], [x, k, v, mask]), [x, k, v, mask]


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize(("scale", "divide"), [(None, False), (0.25, False), (0.25, True)], ids=str)
def test_attention(scale: float | None, divide: bool, masked: bool, kernels: None) -> None:
    gm, inputs = attention(scale, masked, divide=divide)
    fast = qegraph.optimize(gm, rules=shipped())
    agrees(gm, fast, inputs)
    assert has(fast, "qscaled_dot_product") == 1 and b.borders(fast) == (3, 0) and not has(fast, "softmax")


@pytest.mark.parametrize(
    "options",
    [{"p": IN_S8}, {"a": (A, QP(1 / 250, 0))}, {"out": QP(0.04, 100, 0, 127)}, {"out": b.OUT_S8}],
    ids=["int8", "two scales of the probabilities", "narrow", "int8 out"],
)
def test_attention_that_stays(options: dict[str, Any], kernels: None) -> None:
    gm, inputs = attention(0.25, **options)
    fast = qegraph.optimize(gm, rules=shipped())
    agrees(gm, fast, inputs)
    narrow = "out" in options and options["out"].dtype == torch.uint8
    assert has(fast, "qscaled_dot_product") == narrow and has(fast, "clamp") == narrow


def test_softmax_alone() -> None:
    x, mask = torch.randn(2, 3, 5, 5), torch.randn(2, 1, 5, 5)
    checked(net(lambda x, m: ((x * 0.3 + m).softmax(-1), (x + m).softmax(-1), x.softmax(1)), [], [x, mask]), [x, mask])


class Linear4(nn.Module):
    """8 inputs in two blocks, `blocks` blocks of 6 outputs."""

    def __init__(self, blocks: int, bias: bool = True) -> None:
        super().__init__()
        self.w = nn.Buffer(torch.randint(0, 256, (blocks, 2, 4, 3), dtype=torch.uint8))
        self.scales = nn.Buffer(torch.rand(blocks, 1, 6))
        self.zeros = nn.Buffer(torch.randint(0, 16, (blocks, 1, 6), dtype=torch.int8))
        self.compensation = nn.Buffer(torch.zeros(blocks, 2, 6, dtype=torch.int32))
        self.bias = nn.Buffer(torch.randn(6 * blocks)) if bias else None

    def forward(self, x: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return torch.ops.torchao.da8w4_linear_cpu.default(
            x, scales, zeros, self.w, self.scales, self.zeros, self.compensation, self.bias, torch.float32
        )


def activation() -> list[Tensor]:
    return [torch.randint(0, 256, (5, 8), dtype=torch.uint8), torch.rand(5, 1), torch.randint(0, 256, (5, 1))]


@pytest.mark.parametrize("biases", [(True, True, True), (False, False, False), (False, True, False)], ids=str)
def test_linears_of_4_bits_run_as_one(biases: tuple[bool, ...], kernels: None) -> None:
    parts = [Linear4(1 + i, bias) for i, bias in enumerate(biases)]
    x = activation()
    fast = checked(net(lambda k, m, n, *x: (k(*x), m(*x), n(*x)), parts, x), x)
    assert has(fast, "da8w4_linear_cpu") == 1 and has(fast, "slice") >= 3


def test_linears_of_4_bits_on_other_activations(kernels: None) -> None:
    x, y = activation(), activation()
    fast = checked(net(lambda m, n, *x: (m(*x[:3]), n(*x[3:])), [Linear4(1), Linear4(2)], [*x, *y]), [*x, *y])
    assert has(fast, "da8w4_linear_cpu") == 2


def test_linears_of_4_bits_without_the_kernel() -> None:
    """The graph can't run here, but it can be optimised: nothing changes."""
    gm = net(lambda m, n, *x: (m(*x), n(*x)), [Linear4(1), Linear4(2)], activation())
    assert has(qegraph.optimize(gm), "da8w4_linear_cpu") == 2
