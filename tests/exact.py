"""The value of a q/dq graph without any rounding but quantization's own, and who is nearer to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from builders import int8_first
from torch import Tensor, fx
from torch.utils import _pytree as pytree

import qegraph

qd = torch.ops.quantized_decomposed
aten = torch.ops.aten
_CASTS = (aten.to.dtype, aten._to_copy.default, torch.ops.prims.convert_element_type.default)


class _Exact(fx.Interpreter):
    """Runs every float operator in float64; casts between floats do nothing."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _double(super().get_attr(target, args, kwargs))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return None  # checks of input shapes and dtypes

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is torch.ops.higher_order.wrap_with_autocast:
            return _Exact(args[4]).run(*args[5:])
        if target in _CASTS and (kwargs.get("dtype") or args[1]).is_floating_point:
            return args[0]
        if target is aten._assert_tensor_metadata.default:
            return None
        packet = getattr(target, "overloadpacket", None)
        if packet is qd.quantize_per_tensor:
            return _quantize(*args)
        if packet is qd.dequantize_per_tensor:
            return (args[0].double() - args[2]) * args[1]
        if packet is qd.dequantize_per_channel:
            x, scales, zero_points, axis = args[:4]
            shape = [-1 if i == axis else 1 for i in range(x.dim())]
            return (x.double() - zero_points.view(shape)) * scales.view(shape)
        if packet is qd.choose_qparams:
            return target(args[0].float(), *args[1:], **kwargs)
        return super().call_function(target, args, kwargs)


def _quantize(x: Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype) -> Tensor:
    return ((x * (1.0 / scale)).round() + zero_point).clamp(low, high).to(dtype)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def exact(gm: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of `gm` in float64, codes as codes."""
    with torch.no_grad():
        flat = gm.graph.process_inputs(*map(_double, inputs))
        return pytree.tree_leaves(_Exact(gm).run(*flat, enable_io_processing=False))


def checked(gm: fx.GraphModule, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """optimize(gm), after asserting that its outputs are not further from the exact ones than those of `gm` are."""
    fast = qegraph.optimize(gm, cost=int8_first)
    not_further(gm, fast, inputs)
    return fast


def not_further(gm: fx.GraphModule, fast: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
    """On average by no more than 2 % of the unfused error, at worst by half a unit in the last place.

    Codes and float32: or by what the contract allows in a float32 graph.
    """
    with torch.no_grad():
        truth = exact(gm, inputs)
        unfused, fused = (pytree.tree_leaves(each(*inputs)) for each in (gm, fast))
    for t, u, f in zip(truth, unfused, fused, strict=True):
        assert (u.dtype, u.shape) == (f.dtype, f.shape)
        ours, theirs = ((each.double() - t.double()).abs() for each in (f, u))
        if u.is_floating_point():
            unit = max(torch.finfo(u.dtype).eps, 2e-5) * float(t.abs().max())
            assert float(ours.max()) <= max(float(theirs.max()), 0.51 * unit), "the largest error grew"
            assert float(ours.mean()) <= 1.02 * float(theirs.mean()) + 1e-2 * unit, "the mean error grew"
        else:
            assert float(ours.max()) <= max(float(theirs.max()), 1.0), "a code is further off"
            assert int((ours > 0).sum()) <= int((theirs > 0).sum()) + max(1, t.numel() // 10_000), "more codes are off"
