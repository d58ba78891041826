"""The exact result of a module: the same operators in float64, whatever precision it was written in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def truth(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The output tensors. Codes are rounded where the module rounds them, so they are integers here too."""
    state = {name: _double(each) for name, each in (*module.named_parameters(), *module.named_buffers())}
    with torch.no_grad(), _Exact():
        leaves = pytree.tree_leaves(torch.func.functional_call(module, state, pytree.tree_map(_double, inputs)))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


class _Exact(TorchDispatchMode):
    """Every float operand and every float dtype asked for becomes float64; what is quantized is given in float32."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.__name__.split(".")[0]
        if name.startswith(("quantize_", "choose_qparams")):
            return func(*pytree.tree_map(_single, args), **(kwargs or {}))
        if name.startswith(("dequantize_", "_weight_int4pack_mm")):  # they have no kernel for float64
            return func(*pytree.tree_map(_single, args)).double()
        return func(*pytree.tree_map(_double, args), **pytree.tree_map(_double, kwargs or {}))


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype in _FLOATS else value
    return torch.float64 if value in _FLOATS else value


def _single(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float64, *_FLOATS) else value
    return torch.float32 if value in _FLOATS else value
