"""Small q/dq graphs written by hand, and what is asserted of their optimised forms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

import qegraph

Make = Callable[..., GraphModule]
qd = torch.ops.quantized_decomposed
WIDE = {torch.int16: (-(2**15), 2**15 - 1), torch.int32: (-(2**31), 2**31 - 1)}


class QP(NamedTuple):
    """Per-tensor quantization parameters, in the order the operators take them."""

    scale: float
    zp: int
    lo: int = 0
    hi: int = 255
    dtype: torch.dtype = torch.uint8


IN, OUT = QP(0.031, 113), QP(0.037, 91)
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
    """A convolution of 1, 2 or 3 spatial dims over a quantized weight."""

    def __init__(self, dims: int = 2, i: int = 8, o: int = 8, kernel: int = 3, **weight: Any) -> None:
        super().__init__()
        self.weight = Weight(o, i, *[kernel] * dims, **weight)
        self.bias = nn.Buffer(torch.randn(o))
        self.dims, self.padding = dims, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        function = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        return function(x, self.weight(), self.bias, padding=self.padding)


class _Net(nn.Module):
    def __init__(self, function: Callable[..., Any], parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def build(
    module: nn.Module, inputs: Sequence[Tensor], shapes: Any = None, decompose: bool = False, strict: bool = True
) -> GraphModule:
    program = torch.export.export(module, tuple(inputs), strict=strict, dynamic_shapes=shapes)
    if decompose:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own LeafSpec, reported for copyreg
            program = program.run_decompositions()
    gm = program.module()
    assert isinstance(gm, GraphModule)
    return gm


def net(function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor]) -> GraphModule:
    """The graph of `function(*parts, *inputs)`; not strict, which gives the same one in a third of the time."""
    return build(_Net(function, parts), inputs, strict=False)


def decomposed(function: Callable[..., Any], parts: Sequence[nn.Module], inputs: Sequence[Tensor]) -> GraphModule:
    """The same with linears as mm, addmm, view, permute, expand and bmm."""
    return build(_Net(function, parts), inputs, decompose=True, strict=False)


def image(dims: int = 2, batch: int = 2, channels: int = 8) -> Tensor:
    return torch.randn(batch, channels, *[7] * dims)


def checked(gm: GraphModule, inputs: Sequence[Tensor], rel: float = 1e-5) -> GraphModule:
    """optimize(gm), after asserting all of `agrees`."""
    code = gm.code
    fast = qegraph.optimize(gm)
    assert gm.code == code, "the input graph was changed"
    agrees(gm, fast, inputs, rel)
    return fast


def agrees(gm: GraphModule, fast: Callable[..., Any], inputs: Sequence[Tensor], rel: float = 1e-5) -> None:
    """Codes within 1 LSB on at most 0.01 % (or one), floats within `rel` of the largest, and calls leave no trace."""
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        wanted = [w.clone() for w in pytree.tree_leaves(gm(*inputs))]
        found = pytree.tree_leaves(fast(*inputs))
        first = [f.clone() for f in found]
        again = pytree.tree_leaves(fast(*inputs))
    for old, now in zip(before, inputs, strict=True):
        assert torch.equal(old, now), "an input was overwritten"
    for f, kept, a in zip(found, first, again, strict=True):
        assert torch.equal(kept, a), "the second call differs"
        assert torch.equal(f, kept), "the second call overwrote the first one's result"
    for w, f in zip(wanted, found, strict=True):
        assert (w.dtype, w.shape) == (f.dtype, f.shape), f"wanted {w.dtype} {w.shape}, got {f.dtype} {f.shape}"
        _close(w, f, rel)


def _close(wanted: Tensor, found: Tensor, rel: float) -> None:
    off = (wanted.double() - found.double()).abs()
    if not off.numel():
        return
    if wanted.dtype.is_floating_point:
        limit = rel * float(wanted.double().abs().max())
        assert float(off.max()) <= limit, f"off by {float(off.max()):.3g}, allowed {limit:.3g}"
    else:
        differing, allowed = int((off > 0).sum()), max(1, off.numel() // 10_000)
        assert float(off.max()) <= 1, f"off by {int(off.max())} LSB, {differing} of {off.numel()} differ"
        assert differing <= allowed, f"{differing} of {off.numel()} codes differ"


def kinds(fast: GraphModule) -> list[str]:
    """The oneDNN kernels called, e.g. ["qlinear_pointwise.default"]."""
    names = [str(node.target) for node in fast.graph.nodes if node.op == "call_function"]
    return [name.removeprefix("onednn.") for name in names if name.startswith("onednn.")]


def has(fast: GraphModule, name: str) -> int:
    """How many calls have `name` in their operator's name."""
    return sum(name in str(node.target) for node in fast.graph.nodes if node.op == "call_function")


def borders(fast: GraphModule) -> tuple[int, int]:
    """How many quantize and dequantize calls there are."""
    dequantize = has(fast, "dequantize_per")
    return has(fast, "quantize_per") - dequantize, dequantize


def post_ops(fast: GraphModule) -> list[str]:
    """What each int8 kernel takes in, in order: e.g. ["", "relu", "add+relu"]."""
    return ["+".join(each.post_ops) for each in qegraph.explain(fast).contractions if each.int8]


def stays_float(fast: GraphModule) -> str:
    """The reason reported for the one contraction that stays float; no kernel may be called."""
    assert kinds(fast) == [] and post_ops(fast) == []
    floats = qegraph.explain(fast).floats()
    assert len(floats) == 1 and floats[0].reason, str(qegraph.explain(fast))
    return floats[0].reason
