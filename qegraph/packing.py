"""Weights of the int8 kernels: kept as plain int8 buffers, packed once per process, when first needed.

Packed oneDNN tensors are opaque: they can't be copied, saved or loaded. So the module that owns a weight holds the
plain tensor, and the packed one stands in a table of the process, by key. While a graph is being compiled it is the
result of `qegraph::packed_weight(key)`, which Inductor lowers to a constant: its int8 kernels want their weights as
constants, and plain buffers would be inputs of its graph. An exported program outlives the process, and with it the
keys: it calls the operators of `prepack` on plain weights.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from qegraph import _inductor, _torch
from qegraph._torch import OpOverload
from qegraph.prepack import CONV, HALF_LINEAR, LINEAR, pack_conv, pack_half_linear, pack_linear


class _Packed:
    """One packed weight of this process, made when it is first needed; all copies of its owner share it."""

    def __init__(self, weight: torch.Tensor, pack: Callable[[], torch.Tensor]) -> None:
        """`pack` packs `weight`."""
        self._weight = weight
        self._version = _torch.version_of(weight)
        self._pack = pack
        self._tensor: torch.Tensor | None = None

    def is_lost(self) -> bool:
        """The weight was written to before it was packed."""
        return self._tensor is None and _torch.version_of(self._weight) != self._version

    def tensor(self) -> torch.Tensor:
        if self._tensor is None:
            with _torch.unset_fake_temporarily(), torch.no_grad():
                self._tensor = self._pack()
        return self._tensor


_PACKED: weakref.WeakValueDictionary[str, _Packed] = weakref.WeakValueDictionary()


class PackedWeight(torch.nn.Module):
    """Owner of one weight; calling it gives the packed tensor. `key` depends on the weight and how it is packed."""

    weight: torch.Tensor
    prepack: ClassVar[Callable[..., torch.Tensor]]
    """The packed tensor of (weight, *layout)."""
    operator: ClassVar[OpOverload]
    """`prepack` as an operator, which an exported program calls."""

    def __init__(self, weight: torch.Tensor, layout: tuple[Any, ...]) -> None:
        """`layout` is what `prepack` takes beside the weight."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.layout = layout
        self.key = self._digest()
        self._share()

    def forward(self) -> torch.Tensor:
        if torch.compiler.is_exporting():
            return self.operator(self.weight, *self.layout)
        if torch.compiler.is_compiling():
            _renew(self)
            return torch.ops.qegraph.packed_weight(self.key)
        return self.packed()

    def packed(self) -> torch.Tensor:
        """The packed tensor, which all modules with the same key share. A weight that was written to is packed anew."""
        self.renew()
        return self._packed.tensor()

    def renew(self) -> None:
        """Have `key` stand for the weight as it is."""
        if isinstance(self.weight, _torch.FakeTensor):  # capture puts one in its place
            return
        if _torch.version_of(self.weight) != self._version:
            self.key = self._digest()
            self._share()
        elif self._packed.is_lost():
            self._share()

    def _share(self) -> None:
        self._version = _torch.version_of(self.weight)
        shared = _PACKED.get(self.key)
        if shared is None or shared.is_lost():
            shared = _Packed(self.weight, functools.partial(self.prepack, self.weight, *self.layout))
            _PACKED[self.key] = shared
        self._packed = shared

    def _digest(self) -> str:
        plain = self.weight.detach().contiguous()
        digest = hashlib.sha256(plain.view(torch.uint8).numpy().tobytes())
        digest.update(repr((type(self).__name__, tuple(plain.shape), self.layout)).encode())
        return digest.hexdigest()[:24]

    def __getstate__(self) -> dict[str, Any]:
        self.renew()  # a copy takes over the key
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"

    @property
    def kind(self) -> str:
        """The name by which `of_kind` makes such a module."""
        return self.operator.name().removeprefix("qegraph::")

    @staticmethod
    def of_kind(kind: str, weight: torch.Tensor, layout: tuple[Any, ...]) -> PackedWeight:
        """The module whose `kind` and `layout` were these. Raises KeyError for an unknown kind."""
        known = {each.operator.name().removeprefix("qegraph::"): each for each in PackedWeight.__subclasses__()}
        made = known[kind].__new__(known[kind])
        PackedWeight.__init__(made, weight, layout)
        return made


@_torch.run_while_traced
def _renew(weight: PackedWeight) -> None:
    """While Dynamo traces, too, it is the weight as it is that counts; `key` is what it guards on."""
    weight.renew()


class PackedLinear(PackedWeight):
    """weight: int8 (N, K). Packed for activations of shape `x_shape`, None if unknown."""

    prepack = staticmethod(pack_linear)
    operator = LINEAR

    def __init__(self, weight: torch.Tensor, x_shape: list[int] | None) -> None:
        super().__init__(weight, (x_shape,))


class PackedHalfLinear(PackedWeight):
    """weight: float16 (N, K). The kernel rounds a float32 weight to float16, so the buffer holds half of its bytes."""

    prepack = staticmethod(pack_half_linear)
    operator = HALF_LINEAR

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight, ())


class PackedConv(PackedWeight):
    """weight: int8 (O, I/groups, k...), with one scale or O. Packed for one activation shape, scale and zero point."""

    prepack = staticmethod(pack_conv)
    operator = CONV

    def __init__(
        self,
        weight: torch.Tensor,
        scales: int,
        x_scale: float,
        x_zero_point: int,
        windows: tuple[list[int], list[int], list[int]],
        groups: int,
        x_shape: list[int] | None,
    ) -> None:
        super().__init__(weight, (scales, x_scale, x_zero_point, *windows, groups, x_shape))


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
    if packed.is_lost():
        raise RuntimeError(f"weight {key} was written to after the graph was optimised; optimise it again")
    return packed.tensor()


def alike(packed: torch.Tensor) -> torch.Tensor:
    """With the strides of an opaque tensor, which mean nothing: Inductor would copy it to get others."""
    return torch.empty_strided(packed.shape, packed.stride(), dtype=packed.dtype)


def _fake(key: str) -> torch.Tensor:
    _inductor.register_constant_lowering(
        torch.ops.qegraph.packed_weight.default, lambda key: (f"packed_{key}", _fetch(key))
    )
    with _torch.unset_fake_temporarily():
        packed = _fetch(key)
    return alike(packed)


_LIBRARY = torch.library.Library("qegraph", "DEF")
_LIBRARY.define("packed_weight(str key) -> Tensor")
_LIBRARY.impl("packed_weight", _fetch, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::packed_weight", _fake, lib=_LIBRARY)
