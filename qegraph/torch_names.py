"""Names of torch things as the e-graph spells them."""

from __future__ import annotations

from typing import Any

import torch

from qegraph import _torch  # registers quantized_decomposed

quantized_decomposed: Any = torch.ops.quantized_decomposed
aten: Any = torch.ops.aten
onednn: Any = torch.ops.onednn

__all__ = ["_torch", "aten", "dtype_name", "dtype_of", "onednn", "quantized_decomposed"]


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float32 -> "float32"."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """ "float32" -> torch.float32"""
    return getattr(torch, name)
