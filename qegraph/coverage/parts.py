"""What small q/dq graphs are written with: quantization parameters, quantized weights, layers, data, export."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from qegraph.kernels import highest_exact_code

qd = torch.ops.quantized_decomposed
WIDE = {torch.int16: (-(2**15), 2**15 - 1), torch.int32: (-(2**31), 2**31 - 1)}


class QP(NamedTuple):
    """Per-tensor quantization parameters, in the order the operators take them."""

    scale: float
    zp: int
    lo: int = 0
    hi: int = 255
    dtype: torch.dtype = torch.uint8


def usual(p: QP) -> QP:
    """What a quantizer set up for this machine gives in the place of full-range uint8 p: half its codes without VNNI.

    (torchao's reduce_range; the kernels would saturate.)
    """
    high = highest_exact_code()
    return p if high == 255 else QP(p.scale * 2, p.zp // 2, 0, high)


IN, OUT = usual(QP(0.031, 113)), usual(QP(0.037, 91))
IN_S8, OUT_S8 = QP(0.031, -15, -128, 127, torch.int8), QP(0.037, -37, -128, 127, torch.int8)


def q(x: Tensor, p: QP = IN) -> Tensor:
    return qd.quantize_per_tensor.default(x, *p)


def dq(x: Tensor, p: QP = IN, out_dtype: torch.dtype | None = None) -> Tensor:
    if out_dtype is None:
        return qd.dequantize_per_tensor.default(x, *p)
    return qd.dequantize_per_tensor.default(x, *p, out_dtype=out_dtype)


def fq(x: Tensor, p: QP = IN) -> Tensor:
    """dequantize(quantize(x))"""
    return dq(q(x, p), p)


class Weight(nn.Module):
    """int8 codes of a weight; calling it dequantizes them. `scale` makes it per-tensor, else per-channel on `axis`."""

    codes: Tensor
    scales: Tensor
    zps: Tensor

    def __init__(self, *shape: int, axis: int = 0, zp: int = 0, scale: float | None = None,
                 out_dtype: torch.dtype | None = None) -> None:  # fmt: skip
        super().__init__()
        self.axis, self.zp, self.scale, self.out_dtype = axis, zp, scale, out_dtype
        self.register_buffer("codes", torch.randint(-127, 128, shape, dtype=torch.int8))
        self.register_buffer("scales", torch.rand(shape[axis]) * 0.004 + 0.001)
        self.register_buffer("zps", torch.full((shape[axis],), zp, dtype=torch.int64))

    def forward(self) -> Tensor:
        kw = {} if self.out_dtype is None else {"out_dtype": self.out_dtype}
        if self.scale is not None:
            return qd.dequantize_per_tensor.default(self.codes, self.scale, self.zp, -128, 127, torch.int8, **kw)
        return qd.dequantize_per_channel.default(
            self.codes, self.scales, self.zps, self.axis, -128, 127, torch.int8, **kw
        )


class Linear(nn.Module):
    """A linear over a quantized weight; its operand is expected dequantized."""

    def __init__(self, k: int = 24, n: int = 16, bias: bool = True, **weight: Any) -> None:
        super().__init__()
        self.weight = Weight(n, k, **weight)
        self.bias = nn.Buffer(torch.randn(n)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(), self.bias)


class Conv(nn.Module):
    """A convolution of 1, 2 or 3 spatial dims over a quantized weight; `options` are stride, dilation and groups."""

    def __init__(self, dims: int = 2, i: int = 8, o: int = 8, kernel: int = 3, bias: bool = True,
                 options: dict[str, int] | None = None, **weight: Any) -> None:  # fmt: skip
        super().__init__()
        self.options: dict[str, int] = {"padding": kernel // 2, **(options or {})}
        self.weight = Weight(o, i // self.options.get("groups", 1), *[kernel] * dims, **weight)
        self.bias = nn.Buffer(torch.randn(o)) if bias else None
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        function = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        return function(x, self.weight(), self.bias, **self.options)


class Net(nn.Module):
    """function(*parts, *inputs) as a module."""

    def __init__(self, function: Callable[..., Any], parts: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def build(
    module: nn.Module, inputs: Sequence[Tensor], shapes: Any = None, decompose: bool = False, strict: bool = True
) -> GraphModule:
    """Export `module`; `decompose` gives linears as mm, addmm, view, permute, expand and bmm."""
    program = torch.export.export(module, tuple(inputs), strict=strict, dynamic_shapes=shapes)
    if decompose:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own LeafSpec, reported for copyreg
            program = program.run_decompositions(core_decompositions())
    gm = program.module()
    assert isinstance(gm, GraphModule)
    return gm


def core_decompositions() -> dict[Any, Callable[..., Any]]:
    """Torch's own into its core operators; the caller's, as `run_decompositions` takes some of them out."""
    return dict(_default_decompositions())


@cache
def _default_decompositions() -> Mapping[Any, Callable[..., Any]]:
    """Made once: that takes as long as decomposing a few nodes."""
    return dict(torch.export.default_decompositions())


def rows(rank: int, features: int = 24) -> Tensor:
    return torch.randn(*(2, 5, 3)[: rank - 1], features) * 2


def image(dims: int = 2, batch: int = 2, channels: int = 8) -> Tensor:
    return torch.randn(batch, channels, *[7] * dims)
