"""`Cell`: one tiny graph of the matrix, and what the kernels are able to make of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from qegraph.bench import Counts

from .parts import build

Made = tuple[nn.Module, tuple[Tensor, ...]]
MANY = 99


@dataclass(frozen=True)
class Left:
    """What may be left in a fully fused graph; `gemms` is the most int8 and packed GEMMs it may run."""

    quantize: int = 1
    dequantize: int = 0
    activations: int = 0
    arithmetic: int = 0
    gemms: int = MANY

    def excess(self, counts: Counts) -> str:
        """What of `counts` is more than this, in words; empty if nothing is. Float GEMMs are never allowed."""
        found = {
            "float GEMM": (counts.float_gemms, 0),
            "quantize": (counts.quantize, self.quantize),
            "dequantize": (counts.dequantize, self.dequantize),
            "activation": (counts.activations, self.activations),
            "arithmetic": (counts.arithmetic, self.arithmetic),
            "kernel": (counts.int8_gemms + counts.packed_gemms, self.gemms),
        }
        return ", ".join(f"{count} {name} (at most {limit})" for name, (count, limit) in found.items() if count > limit)


@dataclass(frozen=True)
class Cell:
    """One point of the matrix.

    family   as in the feature inventory (F1 to F33, D1 to D14), or a word for what goes beyond it.
    what     operators, options, spelling, in words; with the other axes it is the cell's name.
    make     the module, written with quantized_decomposed operators, and its inputs; draws from torch's generator.
    fused    what may be left where the kernels do all they are able to; None if only the numbers count.
    dtype    of the activation: u8 and s8 codes, or bf16, fp16 and fp8 where the graph computes in those.
    qparams  per-channel or per-tensor weight, dynamic activation.
    users    how many read the product; `sharing` says what of the operands other operators read too.
    """

    family: str
    what: str
    make: Callable[[], Made]
    fused: Left | None
    dtype: str = "u8"
    rank: int = 2
    qparams: str = "per-channel"
    users: int = 1
    sharing: str = ""
    decomposed: bool = False

    @property
    def name(self) -> str:
        """Unique within the family."""
        spelling = "decomposed" if self.decomposed else ""
        users = f"{self.users} users" if self.users > 1 else ""
        parts = (self.what, f"rank {self.rank}", self.dtype, self.qparams, users, self.sharing, spelling)
        return ", ".join(part for part in parts if part)

    @property
    def half(self) -> bool:
        """Computed in less than float32: the exact result is the yardstick, not the unfused graph's."""
        return self.dtype.startswith(("bf16", "fp16", "fp8"))

    @cached_property
    def made(self) -> Made:
        """The module and its inputs, always the same ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{self.family} {self.name}".encode()))
            module, inputs = self.make()
        return module.eval(), inputs

    def graph(self) -> GraphModule:
        """The q/dq graph."""
        module, inputs = self.made
        with torch.no_grad():
            return build(module, inputs, decompose=self.decomposed, strict=False)


Cells = Callable[[], Iterator[Cell]]


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    cells: Cells


FAMILIES: dict[str, Family] = {}
"""Every family there is, in the order they are listed in; filled by the modules of `matrix`."""


def family(name: str, title: str) -> Callable[[Cells], Cells]:
    """Enter a generator of the family's cells."""

    def enter(cells: Cells) -> Cells:
        assert name not in FAMILIES, name
        FAMILIES[name] = Family(name, title, cells)
        return cells

    return enter
