"""Weights of the int8 kernels: kept as plain int8 buffers, packed once per process, when first needed.

Packed oneDNN tensors are opaque: they can't be copied, saved or loaded. So the module that owns a weight holds the
plain tensor, and the packed one stands in a table of the process, by key. While a graph is being compiled it is the
result of `qegraph::packed_weight(key)`, which Inductor lowers to a constant.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable
from typing import Any

import torch

from qegraph import _inductor, _torch


class _Packed:
    """One packed weight of this process, made when it is first needed; all copies of its owner share it."""

    def __init__(self, pack: Callable[[], torch.Tensor]) -> None:
        self._pack = pack
        self._tensor: torch.Tensor | None = None

    def tensor(self) -> torch.Tensor:
        if self._tensor is None:
            with _torch.unset_fake_temporarily(), torch.no_grad():
                self._tensor = self._pack()
        return self._tensor


_NOMINAL_SIZE = 56
"""Of images whose size isn't known when their weight is packed."""

_PACKED: weakref.WeakValueDictionary[str, _Packed] = weakref.WeakValueDictionary()


class PackedWeight(torch.nn.Module):
    """Owner of one weight; calling it gives the packed tensor. `key` depends on the weight and how it is packed."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, layout: tuple[Any, ...], **operands: torch.Tensor) -> None:
        """`layout` and `operands`, which are kept as buffers too, are what `prepack` takes beside the weight."""
        super().__init__()
        self.register_buffer("weight", weight)
        for name, tensor in operands.items():
            self.register_buffer(name, tensor)
        self.layout = layout
        self.key = self._digest()
        self._share()

    def forward(self) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return torch.ops.qegraph.packed_weight(self.key)
        return self._packed.tensor()

    @staticmethod
    def prepack(*operands: Any) -> torch.Tensor:
        """The packed tensor of (weight, operands..., layout...)."""
        raise NotImplementedError

    def _share(self) -> None:
        made = _Packed(functools.partial(self.prepack, *self.buffers(), *self.layout))
        self._packed = _PACKED.setdefault(self.key, made)

    def _digest(self) -> str:
        plain = self.weight.detach().contiguous()
        digest = hashlib.sha256(plain.view(torch.uint8).numpy().tobytes())
        digest.update(repr((type(self).__name__, tuple(plain.shape), self.layout)).encode())
        return digest.hexdigest()[:24]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"


class PackedLinear(PackedWeight):
    """weight: int8 (N, K). Packed for activations of shape `x_shape`, None if unknown."""

    def __init__(self, weight: torch.Tensor, x_shape: list[int] | None) -> None:
        super().__init__(weight, (x_shape,))

    @staticmethod
    def prepack(*operands: Any) -> torch.Tensor:
        """The operator reads the weight as if it were contiguous, whatever its strides."""
        weight, *layout = operands
        return torch.ops.onednn.qlinear_prepack(weight.contiguous(), *layout)


class PackedHalfLinear(PackedWeight):
    """weight: float16 (N, K). The kernel rounds a float32 weight to float16, so the buffer holds half of its bytes."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight, (None,))

    @staticmethod
    def prepack(*operands: Any) -> torch.Tensor:
        weight, x_shape = operands
        return torch.ops.onednn.linear_prepack_fp16(weight.float(), x_shape)


class PackedConv(PackedWeight):
    """weight: int8 (O, I/groups, k...). Packed for one activation shape, scale and zero point.

    The packed tensor doesn't depend on `scales`; the call wants them.
    """

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
        problem = (tuple(weight.shape), tuple(x_shape or ()), *map(tuple, windows), groups)
        is_first = _HAS_ZERO_POINT.setdefault(problem, x_zero_point != 0) == (x_zero_point != 0)
        shape = x_shape if is_first else _distinct(x_shape, weight.shape[1] * groups, weight.dim() - 2)
        super().__init__(weight, (x_scale, x_zero_point, *windows, groups, shape), scales=scales)

    @staticmethod
    def prepack(*operands: Any) -> torch.Tensor:
        return torch.ops.onednn.qconv_prepack(*operands)


_HAS_ZERO_POINT: dict[tuple[Any, ...], bool] = {}
"""Convolution -> whether the first one of its kind in this process has a zero point: it is packed for its own shape."""


def _distinct(x_shape: list[int] | None, channels: int, rank: int) -> list[int]:
    """A shape to pack for that no other convolution of its kind has, but for the batch the same.

    Packing looks its descriptor up by shape alone. A weight packed after another of its shape, the one with a zero
    point and the other without, gets the other's layout, and the kernel packs it again on every call (oneDNN 3.12;
    tests/test_kernels.py shows it).
    """
    batch, *rest = x_shape or [1, channels, *[_NOMINAL_SIZE] * rank]
    return [batch + 1, *rest]


class HeldConstant:
    """A tensor that compiled code has for a constant, by a key that depends on its content, while this object lives."""

    def __init__(self, tensor: torch.Tensor) -> None:
        plain = tensor.detach().contiguous()
        digest = hashlib.sha256(plain.view(-1).view(torch.uint8).numpy().tobytes())
        digest.update(repr((tensor.dtype, tuple(tensor.shape), tensor.stride())).encode())
        self.key = f"held_{digest.hexdigest()[:24]}"
        self._packed = _PACKED.setdefault(self.key, _Packed(tensor.detach))


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


def _fetch(key: str) -> torch.Tensor:
    packed = _PACKED.get(key)
    if packed is None:
        raise RuntimeError(f"no packed weight {key} in this process; run the optimised module, not a copy of its graph")
    return packed.tensor()


def _fake(key: str) -> torch.Tensor:
    """With the strides of the opaque tensor, which mean nothing: Inductor would copy it to get others."""
    _inductor.register_constant_lowering(torch.ops.qegraph.packed_weight.default, _fetch)
    with _torch.unset_fake_temporarily():
        packed = _fetch(key)
    return torch.empty_strided(packed.shape, packed.stride(), dtype=packed.dtype)


_LIBRARY = torch.library.Library("qegraph", "DEF")
_LIBRARY.define("packed_weight(str key) -> Tensor")
_LIBRARY.impl("packed_weight", _fetch, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::packed_weight", _fake, lib=_LIBRARY)
