"""F10, F22 to F24: products of integers, scaled afterwards, and products whose weights alone are int8 or int4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qegraph.coverage.cell import Cell, Left, Made, family
from qegraph.coverage.parts import Net, rows

aten = torch.ops.aten
K, N = 32, 16  # the weight-only kernel of bf16 needs a K that 16 divides
HALVES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BOOLS = (False, True)


class Codes(nn.Module):
    """int8 codes (K, N) or (N, K), their scales along N, and a bias."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.codes = nn.Buffer(torch.randint(-127, 128, shape, dtype=torch.int8))
        self.scales = nn.Buffer((torch.rand(N) * 0.004 + 0.001).to(dtype))
        self.bias = nn.Buffer(torch.randn(N).to(dtype))
        self.compensation = nn.Buffer(128 * self.codes.sum(0, dtype=torch.int32))


def smooth(form: str, rank: int, dtype: str, bias: bool, per_row: bool) -> Made:
    """_int_mm of codes (M, K) given as input, times the scale of each row or of all, times the weight's scales."""
    half = HALVES[dtype]
    part = Codes(K, N, dtype=half)
    flat = 10 if rank == 3 else 5
    codes = torch.randint(-127, 128, (2, 5, K) if rank == 3 else (5, K), dtype=torch.int8)
    scales = (torch.rand(flat, 1) if per_row else torch.rand(1)) * 0.02 + 0.01

    def function(m: Any, x: Tensor, s: Tensor) -> Tensor:
        x = x.reshape(flat, K) if rank == 3 else x
        if form == "u8s8":
            shifted = (x.to(torch.int16) + 128).to(torch.uint8)
            y = aten._int_mm.default(shifted, m.codes) - m.compensation
        else:
            y = aten._int_mm.default(x, m.codes)
        y = y.to(half) * s.to(half) * m.scales
        y = y.reshape(2, 5, N) if rank == 3 else y
        return y + m.bias if bias else y

    return Net(function, [part]), (codes, scales)


@family("F10", "product of integers, scaled afterwards")
def smooth_quant() -> Iterator[Cell]:
    """The kernel has no scale for each row: that, and a bias after it, stay outside."""
    for form, rank, dtype, bias, per_row in product(("s8", "u8s8"), (2, 3), ("fp32", "bf16"), BOOLS, BOOLS):
        if form == "u8s8" and rank == 3:
            continue
        casts = (1 if per_row else 2) * (dtype == "bf16")  # the input scales are rounded, for one scale widened again
        left = Left(quantize=0, arithmetic=casts + (1 + bias if per_row else 0))
        what = f"{form}{' + bias' if bias else ''}, {'scale for each row' if per_row else 'one scale'}"
        make = partial(smooth, form, rank, dtype, bias, per_row)
        yield Cell("F10", what, make, left, dtype, rank, "dynamic", decomposed=True)


WRITTEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda x, w: F.linear(x, w.to(x.dtype)),
    "linear of transposed": lambda x, w: F.linear(x.transpose(0, 1), w.to(x.dtype)),
    "mm, reshape": lambda x, w: torch.mm(x.reshape(-1, K), w.to(x.dtype).t()).reshape(*x.shape[:-1], N),
    "cast of transposed": lambda x, w: torch.matmul(x, w.t().to(x.dtype)),
}


def weight_only(written: str, rank: int, dtype: str) -> Made:
    part = Codes(N, K, dtype=HALVES[dtype])
    return Net(lambda m, x: WRITTEN[written](x, m.codes) * m.scales, [part]), (rows(rank, K).to(HALVES[dtype]),)


@family("F22", "int8 weight, float activation")
def weights_only() -> Iterator[Cell]:
    axes = [*product((2, 3), HALVES, (False,)), (2, "bf16", True), (3, "bf16", True)]
    for written, (rank, dtype, decomposed) in product(WRITTEN, axes):
        if rank == 2 and written == "linear of transposed":
            continue
        make = partial(weight_only, written, rank, dtype)
        yield Cell("F22", written, make, Left(quantize=0), dtype, rank, "int8 weight", decomposed=decomposed)


def weights_concatenated(count: int, dtype: str) -> Made:
    parts = [Codes(N, K) for _ in range(count)]
    scales = nn.ParameterList([(torch.rand(count * N) * 0.004 + 0.001).to(HALVES[dtype])])

    def function(*args: Any) -> Tensor:
        *weights, s, x = args
        return torch.mm(x, torch.cat([w.codes.t().to(x.dtype) for w in weights], 1)) * s[0]

    return Net(function, [*parts, scales]), (rows(2, K).to(HALVES[dtype]),)


@family("F23", "concatenated int8 weights, float activation")
def concatenated_weights() -> Iterator[Cell]:
    for count, dtype in product((2, 3), ("bf16", "fp32")):
        left = Left(quantize=0, gemms=1)
        yield Cell(
            "F23", f"{count} weights", partial(weights_concatenated, count, dtype), left, dtype, 2, "int8 weight"
        )


class Codes4(nn.Module):
    """A packed 4-bit weight (n, 64), and scale and zero of every group of 32 inputs."""

    def __init__(self, n: int, dtype: torch.dtype) -> None:
        super().__init__()
        codes = torch.randint(0, 16, (n, 64), dtype=torch.int32)
        self.codes = nn.Buffer(aten._convert_weight_to_int4pack_for_cpu(codes, 1))
        self.params = nn.Buffer(torch.stack([torch.rand(2, n) * 0.01, torch.randn(2, n)], -1).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return aten._weight_int4pack_mm_for_cpu(x, self.codes, 32, self.params)


def weights_of_four_bits(sizes: tuple[int, ...], dtype: str) -> Made:
    parts = [Codes4(n, HALVES[dtype]) for n in sizes]
    return Net(lambda *args: [part(args[-1]) for part in args[:-1]], parts), (rows(2, 64).to(HALVES[dtype]),)


@family("F24", "int4 weights that share an activation")
def shared_activation() -> Iterator[Cell]:
    """Blocks of 64 rows are joined, so all weights but the last must fill theirs."""
    for sizes, dtype in product(((64, 64), (128, 64, 16), (64, 64, 128, 64), (96, 64)), HALVES):
        left = Left(quantize=0, gemms=2 if sizes[0] % 64 else 1)
        what = f"weights of {', '.join(map(str, sizes))} rows"
        yield Cell("F24", what, partial(weights_of_four_bits, sizes, dtype), left, dtype, 2, "int4 weight")
