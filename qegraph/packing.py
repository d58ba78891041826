"""Weights of the int8 kernels: kept as plain int8 buffers, packed once per process, when first needed.

Packed oneDNN tensors are opaque: they can't be copied, saved or loaded. So the module that owns a weight holds the
plain tensor, and drops the packed one whenever it is copied or pickled. While a graph is being compiled the packed
tensor stands as the result of `qegraph::packed_weight(key)`, which Inductor lowers to a constant.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import torch

from qegraph import _inductor, _torch

_OWNERS: weakref.WeakValueDictionary[str, PackedWeight] = weakref.WeakValueDictionary()


class PackedWeight(torch.nn.Module):
    """Owner of one weight; calling it gives the packed tensor. `key` depends on the weight and how it is packed."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, layout: Any) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.layout = layout
        self._packed: torch.Tensor | None = None
        self.key = self._digest()
        _OWNERS[self.key] = self

    def forward(self) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return torch.ops.qegraph.packed_weight(self.key)
        return self.packed()

    def packed(self) -> torch.Tensor:
        """The packed tensor, made on the first call of this process."""
        if self._packed is None:
            self._packed = self.pack()
        return self._packed

    def pack(self) -> torch.Tensor:
        raise NotImplementedError

    def _digest(self) -> str:
        plain = self.weight.detach().contiguous()
        digest = hashlib.sha256(plain.numpy().tobytes())
        digest.update(repr((type(self).__name__, tuple(plain.shape), self.layout)).encode())
        return digest.hexdigest()[:24]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _OWNERS[self.key] = self

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"


class PackedLinear(PackedWeight):
    """weight: int8 (N, K). Packed for activations of shape `x_shape`, None if unknown."""

    def __init__(self, weight: torch.Tensor, x_shape: list[int] | None) -> None:
        super().__init__(weight, (x_shape,))

    def pack(self) -> torch.Tensor:
        return torch.ops.onednn.qlinear_prepack(self.weight, *self.layout)


class PackedConv(PackedWeight):
    """weight: int8 (O, I/groups, k...). Packed for one activation shape, scale and zero point."""

    scales: torch.Tensor

    def __init__(
        self,
        weight: torch.Tensor,
        scales: torch.Tensor,
        x_scale: float,
        x_zero_point: int,
        windows: tuple[list[int], list[int], list[int]],
        groups: int,
        x_shape: list[int] | None,
    ) -> None:
        super().__init__(weight, (x_scale, x_zero_point, *windows, groups, x_shape))
        self.register_buffer("scales", scales)

    def pack(self) -> torch.Tensor:
        return torch.ops.onednn.qconv_prepack(self.weight, self.scales, *self.layout)


class InputChecks(torch.nn.Module):
    """The checks `torch.export` leaves at the start of a graph. They can't be pickled: a loaded copy goes without."""

    def __init__(self, checks: torch.nn.Module) -> None:
        super().__init__()
        self.checks: torch.nn.Module | None = checks

    def forward(self, *args: Any) -> None:
        if self.checks is not None:
            self.checks(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_modules": {"checks": None}}


def _packed_of(key: str) -> torch.Tensor:
    owner = _OWNERS.get(key)
    if owner is None:
        raise RuntimeError(f"no packed weight {key} in this process; run the optimised module, not a copy of its graph")
    return owner.packed()


def _fake(key: str) -> torch.Tensor:
    _inductor.register_constant_lowering(torch.ops.qegraph.packed_weight.default, _packed_of)
    with _torch.unset_fake_temporarily():
        shape = _packed_of(key).shape
    return torch.empty(shape, dtype=torch.int8)


_LIBRARY = torch.library.Library("qegraph", "DEF")
_LIBRARY.define("packed_weight(str key) -> Tensor")
_LIBRARY.impl("packed_weight", _packed_of, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::packed_weight", _fake, lib=_LIBRARY)
