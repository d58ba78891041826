"""A graph of reference operators without any rounding but that of its quantizers, computed in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from qegraph.torch_names import quantized_decomposed as qd


class Exact(fx.Interpreter):
    """Runs a graph of `qegraph.prove.evaluate`. reals  node that quantizes -> what it rounds, in codes and in range."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.reals: dict[str, torch.Tensor] = {}
        self.extra_traceback = False

    def outputs(self, inputs: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        return self.run(*(_double(each) for each in inputs))

    def run_node(self, n: fx.Node) -> Any:
        self.name = n.name
        return super().run_node(n)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A change of float dtype is none."""
        if target != "to":
            return super().call_method(target, args, kwargs)
        x, dtype = args
        to_float = dtype.is_floating_point and dtype.itemsize > 1
        return x.double() if to_float else x.to(dtype)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        packet = getattr(target, "overloadpacket", None)
        if packet is qd.quantize_per_tensor:
            x, scale, zero_point, low, high, dtype = args
            return self._quantized(x / scale + zero_point, low, high, dtype)
        if packet is qd.quantize_per_channel:
            x, scales, zero_points, axis, low, high, dtype = args
            return self._quantized(x / _along(scales, x, axis) + _along(zero_points, x, axis), low, high, dtype)
        if packet is qd.dequantize_per_tensor:
            return (args[0].double() - args[2]) * args[1]
        if packet is qd.dequantize_per_channel:
            x, scales, zero_points, axis, *_ = args
            return (x.double() - _along(zero_points, x, axis)) * _along(scales, x, axis)
        return super().call_function(target, args, kwargs)

    def _quantized(self, real: torch.Tensor, low: int, high: int, dtype: torch.dtype) -> torch.Tensor:
        self.reals[self.name] = real.clamp(low, high)
        return self.reals[self.name].round().to(dtype)


def _along(values: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    return values.double().view([-1 if i == axis else 1 for i in range(x.dim())])


def _double(value: Any) -> Any:
    wide = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype.itemsize > 1
    return value.double() if wide else value
