"""Programs that rules are tried on: quantized models of the zoo, and chains that show what grows without bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from qegraph import zoo
from qegraph.capture import capture
from qegraph.coverage.parts import OUT, Conv, Linear, Net, build, dq, fq, q
from qegraph.program import Program


@dataclass(frozen=True)
class Subject:
    """A quantized graph and arguments to call it with."""

    name: str
    graph: GraphModule
    inputs: tuple[Tensor, ...]

    def program(self) -> Program:
        return capture(self.graph)


def model(name: str, size: zoo.Size, seed: int = 0) -> Subject:
    """A model of the zoo under torchao's default recipe. Raises QegraphError for an unknown name."""
    module, inputs = zoo.load(name, size, seed)
    return Subject(name, zoo.quantize(module, inputs, seed=seed), inputs)


@dataclass(frozen=True)
class Chain:
    """`length` times the same; `make(length)` gives function, parts and inputs. Rules may grow with it, linearly."""

    name: str
    make: Callable[[int], tuple[Callable[..., Any], Sequence[nn.Module], Sequence[Tensor]]]

    def subject(self, length: int) -> Subject:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            function, parts, inputs = self.make(length)
        return Subject(f"{self.name} x {length}", build(Net(function, parts), inputs, strict=False), tuple(inputs))


def _moves(length: int) -> Any:
    """A linear, then permutations and views in turn, then a sum."""

    def run(m: Linear, x: Tensor, y: Tensor) -> Tensor:
        z = m(dq(x))
        for _ in range(length):
            z = z.permute(1, 0).reshape(4, -1).reshape(-1, 4)
        return F.relu(z.reshape(16, 16) + y)

    return run, [Linear(16, 16)], [_codes(16, 16), torch.randn(16, 16)]


def _elementwise(length: int) -> Any:
    """A linear, then factors and functions in turn, and a bias."""

    def run(m: Linear, x: Tensor) -> Tensor:
        z = m(dq(x))
        for step in range(length):
            z = F.relu(z * (1.5 + step)).clamp(-1.0, 5.0 + step)
        return q(z + 0.25, OUT)

    return run, [Linear(16, 16)], [_codes(4, 16)]


def _residuals(length: int) -> Any:
    """Blocks of a convolution, a sum with what went in, relu and new codes."""

    def run(*arguments: Any) -> Tensor:
        *blocks, x = arguments
        z = dq(x)
        for block in blocks:
            z = fq(F.relu(block(z) + z), OUT)
        return z

    return run, [Conv(i=4, o=4) for _ in range(length)], [_codes(1, 4, 6, 6)]


def _codes_moved(length: int) -> Any:
    """What is dequantized, pooled, joined and quantized again, again and again."""

    def run(x: Tensor) -> Tensor:
        z = x
        for _ in range(length):
            y = F.max_pool2d(dq(z), 3, 1, 1)
            z = q(torch.cat([y, F.relu(y)], 1)[:, :4])
        return z

    return run, [], [_codes(1, 4, 6, 6)]


def _halves(length: int) -> Any:
    """Linears around sums in bfloat16."""

    def run(*arguments: Any) -> Tensor:
        *linears, x = arguments
        z = dq(x).to(torch.bfloat16)
        for linear in linears:
            z = z + F.relu(linear(fq(z.float()))).to(torch.bfloat16) * 0.5
        return z

    return run, [Linear(16, 16) for _ in range(length)], [_codes(4, 16)]


def _codes(*shape: int) -> Tensor:
    return torch.randint(0, 255, shape, dtype=torch.uint8)


CHAINS = (
    Chain("moves", _moves),
    Chain("elementwise", _elementwise),
    Chain("residuals", _residuals),
    Chain("codes", _codes_moved),
    Chain("halves", _halves),
)
MODELS = ("mobilenet_v3_large", "bert_base", "llama_style")
"""Of the zoo, at its small size: together they have most operators, and are quickly quantized."""


def models(names: Sequence[str], size: zoo.Size, progress: Callable[[str], None]) -> Iterator[Subject]:
    """The named models, one after another."""
    for name in names:
        progress(f"{name}: quantizing")
        yield model(name, size)
