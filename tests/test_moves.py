"""Rearrangements and padding move across quantize and dequantize; the int8 kernels on both sides meet."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, IN_S8, OUT, OUT_S8, QP, Conv, Linear, borders, build, checked, decomposed, fq, has, net, q
from torch import Tensor, nn

import qegraph

Fn = Callable[[Tensor], Tensor]
INDEX = torch.tensor([3, 0, 3])


def image(channels: int = 8) -> Tensor:
    return torch.randn(2, channels, 6, 6)


VIEWS: dict[str, Fn] = {
    "slice": lambda x: x[:, 2:6],
    "slice, stepped": lambda x: x[:, ::2, 1:, :-1],
    "slice from the end": lambda x: x[:, -3:],
    "select": lambda x: x[:, 1],
    "select the last": lambda x: x[..., -1],
    "narrow": lambda x: x.narrow(1, 2, 3),
    "split": lambda x: x.split(3, 1)[1],
    "split_with_sizes": lambda x: x.split([3, 5], 1)[1],
    "chunk": lambda x: x.chunk(3, 1)[2],
    "unbind": lambda x: x.unbind(1)[3],
    "tensor_split": lambda x: x.tensor_split(3, 1)[0],
    "movedim": lambda x: x.movedim(1, 3),
    "mT": lambda x: x.mT,
    "swapaxes": lambda x: x.swapaxes(1, -1),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "diagonal": lambda x: x.diagonal(0, 2, 3),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "unflatten": lambda x: x.unflatten(1, (2, 4)),
    "ravel": lambda x: x.ravel(),
    "broadcast_to": lambda x: x[:, :1].broadcast_to(2, 5, 6, 6),
}
COPIES: dict[str, Fn] = {
    "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: x.roll((1, 2), (2, 3)),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "tile": lambda x: x.tile(2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "channel shuffle by views": lambda x: x.view(2, 2, 4, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6),
    "stack": lambda x: torch.stack([x, x], 1),
    "index_select": lambda x: x.index_select(1, INDEX),
    "index": lambda x: x[:, INDEX],
    "gather": lambda x: x.gather(1, INDEX.view(1, 3, 1, 1).expand(2, 3, 6, 6)),
    "reflect": lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, 1, 0), mode="replicate"),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1)),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)),
    "crop": lambda x: F.pad(x, (-1, -1, 2, -2)),
    "upsample": lambda x: F.interpolate(x, scale_factor=2),
    "upsample to": lambda x: F.interpolate(x, size=(9, 11)),
    "upsample exact": lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
}
MOVES = VIEWS | COPIES
ONLY_UINT8 = ("upsample", "upsample to", "upsample exact")


@pytest.mark.parametrize("name", MOVES)
def test_quantize_moves_to_the_product(name: str) -> None:
    """conv -> relu -> move -> quantize: the kernel quantizes, and bytes are moved. The kernel's are channels-last."""

    def both(m: nn.Module, n: nn.Module, x: Tensor) -> Any:
        return q(MOVES[name](F.relu(m(fq(x)))), OUT), q(MOVES[name](F.relu(n(fq(x)))), OUT_S8)

    x = image()
    fast = checked(net(both, [Conv(), Conv()], [x]), [x])
    assert set(b.post_ops(fast)) == {"relu"}
    assert borders(fast) == ((2, 0) if name in ONLY_UINT8 else (1, 0)), fast.code


@pytest.mark.parametrize("name", MOVES)
def test_between_products(name: str) -> None:
    """conv -> q -> dq -> move -> q -> dq -> linear, decomposed: no code is made a float."""
    x = image()
    parts = [Conv(), Linear(MOVES[name](x).shape[-1], 10)]
    fast = checked(decomposed(lambda m, n, x: n(fq(MOVES[name](fq(m(fq(x)), OUT)), OUT)), parts, [x]), [x])
    assert len(b.post_ops(fast)) == 2 and borders(fast) == (1, 0), fast.code


@pytest.mark.parametrize("name", MOVES)
def test_dequantize_moves_to_the_product(name: str) -> None:
    """dq -> move -> linear, with nothing quantized in between."""
    x = image()
    part = Linear(MOVES[name](x).shape[-1], 10)
    stored = (IN,) if name in ONLY_UINT8 or not b.READS_INT8 else (IN, IN_S8)
    fast = checked(net(lambda n, x: [n(MOVES[name](fq(x, p))) for p in stored], [part], [x]), [x])
    assert b.post_ops(fast) == [""] * len(stored)


@pytest.mark.parametrize("name", ["slice", "flip", "split", "pixel_shuffle", "index", "upsample"])
def test_relu_moves_to_the_product(name: str) -> None:
    x = image()
    fast = checked(net(lambda m, x: q(F.relu(MOVES[name](m(fq(x)))), OUT), [Conv()], [x]), [x])
    assert b.post_ops(fast) == ["relu"] and borders(fast) == (1, 0)


def test_parts_of_one_operand_share_the_split() -> None:
    def attention(m: nn.Module, x: Tensor) -> Any:
        query, key, value = m(fq(x)).split(8, -1)
        return q(query, OUT), q(key, OUT), q(F.relu(value), OUT)

    x = torch.randn(2, 5, 24)
    fast = checked(net(attention, [Linear(24, 24)], [x]), [x])
    assert has(fast, "split") <= 2 and set(b.post_ops(fast)) <= {"", "relu"} and borders(fast)[1] == 0


def test_equal_moves_are_computed_once() -> None:
    x = image()
    fast = checked(net(lambda x: (q(fq(x)[:, 1:3].flip(1)), q(x)[:, 1:3].flip(1)), [], [x]), [x])
    assert has(fast, "slice") == 1 and has(fast, "flip") == 1 and borders(fast) == (1, 0)


def test_moves_of_other_attributes_differ() -> None:
    x = image()
    gm = net(lambda x: [q(part) for part in (*fq(x).split([3, 3, 2], 1), fq(x)[:, 3:6], fq(x)[:, 2:5])], [], [x])
    assert borders(checked(gm, [x])) == (1, 0)


def test_gather_by_a_computed_index() -> None:
    x = image()
    gm = net(lambda m, x: q(m(fq(x)).index_select(1, x.flatten().topk(3).indices % 8), OUT), [Conv()], [x])
    fast = checked(gm, [x])
    assert b.post_ops(fast) == [""] and borders(fast) == (1, 0)


@b.full_range
def test_embedding_of_codes() -> None:
    """Rows are picked out of the codes of the table, not out of floats."""
    index = torch.tensor([[3, 1, 4], [1, 5, 9]])
    gm = net(lambda w, n, i: n(F.embedding(i, w())), [b.Weight(20, 24, scale=0.01), Linear()], [index])
    fast = checked(gm, [index])
    assert b.post_ops(fast) == [""] and borders(fast) == (0, 0)


def test_mask_stays_opaque() -> None:
    x = image()
    mask = torch.tensor([True, False] * 4)
    fast = checked(net(lambda x: q(fq(x)[:, mask]), [], [x]), [x])
    assert borders(fast)[0] == 2


@pytest.mark.parametrize("p", [QP(0.02, 0), QP(0.02, 255), QP(0.02, 10, 0, 127), QP(0.02, -128, -128, 127, torch.int8)])
def test_padding_is_the_zero_point(p: QP) -> None:
    x = image()
    fast = checked(net(lambda x: q(F.pad(fq(x, p), (1, 1)), p), [], [x]), [x])
    assert borders(fast) == (1, 0) and has(fast, "pad") == 1


@pytest.mark.parametrize("case", ["other value", "zero point is no code", "other parameters"])
def test_padding_that_stays_float(case: str) -> None:
    x = image()
    p = QP(0.02, 300) if case == "zero point is no code" else IN
    other = OUT if case == "other parameters" else p
    value = 0.5 if case == "other value" else 0.0
    fast = checked(net(lambda x: q(F.pad(fq(x, p), (1, 1), value=value), other), [], [x]), [x])
    assert borders(fast)[0] == 2


def test_zero_point_outside_a_narrow_range() -> None:
    """0 is quantized to the nearest code of the range, 100, not to the zero point."""
    x, p = image(), QP(0.02, 10, 100, 200)
    checked(net(lambda m, x: q(F.pad(m(fq(x)), (1, 1)), p), [Conv()], [x]), [x])


def test_moves_of_other_parameters_stay_requantized() -> None:
    x = image()
    gm = net(lambda x: q(fq(x).flip(1), OUT), [], [x])
    assert borders(checked(gm, [x])) == (2, 1)


@pytest.mark.parametrize("name", ["flip", "slice", "roll", "mT"])
def test_transposed_batches_are_not_a_repeated_matrix(name: str) -> None:
    """bmm with square matrices that are rearranged after they are repeated."""
    x = torch.randn(3, 4, 16)
    arrange: dict[str, Fn] = {
        "flip": lambda w: w.flip(1), "slice": lambda w: w[:, torch.arange(15, -1, -1)],
        "roll": lambda w: w.roll(1, 2), "mT": lambda w: w.mT,
    }  # fmt: skip
    gm = net(lambda w, x: torch.bmm(fq(x), arrange[name](w().t().expand(3, 16, 16))), [b.Weight(16, 16)], [x])
    checked(gm, [x])


def test_symbolic_dims() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = Conv()

        def forward(self, x: Tensor) -> Tensor:
            y = fq(F.interpolate(fq(self.conv(fq(x)), OUT), scale_factor=2), OUT)
            y = F.pad(y[:, 1:5], (1, 1))
            return q(torch.cat([y.flip(1), y.roll(1, 0)], 1)[: x.shape[0] - 2], OUT)

    x = torch.randn(4, 8, 6, 6)
    gm = build(Net(), [x], shapes={"x": {0: torch.export.Dim("batch", min=4, max=512)}})
    fast = checked(gm, [x])
    assert borders(fast) == (1, 0), fast.code
    b.agrees(gm, fast, [torch.randn(9, 8, 6, 6)])


def test_long_chain_reaches_its_fixpoint() -> None:
    def chain(x: Tensor, steps: int) -> Tensor:
        for step in range(steps):
            x = fq(F.relu(fq(x.flip(1), OUT)[:, :, 0:] if step % 2 else fq(x.transpose(2, 3), OUT)), OUT)
        return x

    rounds: list[int] = []
    for steps in (30, 120):
        x = image()
        gm = net(lambda x, steps=steps: chain(x, steps), [], [x])
        report = qegraph.explain(checked(gm, [x]))
        assert not report.limit
        rounds.append(report.rounds)
    assert rounds[1] <= 5 * rounds[0]
