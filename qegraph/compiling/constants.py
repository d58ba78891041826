"""Constants of compiled code: a graph's by one call of an operator, as each call costs milliseconds of tracing."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Callable, Sequence

import torch

from qegraph import _inductor, _torch
from qegraph.packing import PackedWeight, alike


class Constants:
    """Tensors that compiled code has for constants, with their names, while this object lives; see `hold`."""

    def __init__(self, key: str, named: Sequence[tuple[str, Callable[[], torch.Tensor]]]) -> None:
        self.key = key
        self._named = named

    def named(self) -> list[tuple[str, torch.Tensor]]:
        """Inside a trace as outside, they are the tensors themselves."""
        with _torch.unset_fake_temporarily():
            return [(name, get()) for name, get in self._named]


_CONSTANTS: weakref.WeakValueDictionary[str, Constants] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


def hold(owners: Sequence[PackedWeight | torch.Tensor]) -> Constants:
    """For a graph that calls `qegraph::constants(key)`, a list with the tensor of each of these.

    The key and the names depend on the content: graphs with the same code and other weights are different graphs, in
    other processes too. Tensors with the same content can be written to later, so each call gives another key.
    """
    named = [(_name(owner), owner.packed if isinstance(owner, PackedWeight) else owner.detach) for owner in owners]
    digest = hashlib.sha256(" ".join(name for name, _ in named).encode()).hexdigest()[:24]
    constants = Constants(f"{digest}_{next(_NUMBERS)}", named)
    _CONSTANTS[constants.key] = constants
    return constants


def _name(owner: PackedWeight | torch.Tensor) -> str:
    if isinstance(owner, PackedWeight):
        return f"packed_{owner.key}"
    plain = owner.detach().contiguous()
    digest = hashlib.sha256(plain.view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr((owner.dtype, tuple(owner.shape), owner.stride())).encode())
    return f"held_{digest.hexdigest()[:24]}"


def _fetch(key: str) -> list[tuple[str, torch.Tensor]]:
    held = _CONSTANTS.get(key)
    if held is None:
        raise RuntimeError(f"no constants {key} in this process: the graph was given away by what compiled it")
    return held.named()


def _real(key: str) -> list[torch.Tensor]:
    return [tensor for _, tensor in _fetch(key)]


def _fake(key: str) -> list[torch.Tensor]:
    _inductor.register_constant_lowering(torch.ops.qegraph.constants.default, _fetch)
    return [alike(tensor) for tensor in _real(key)]


_LIBRARY = torch.library.Library("qegraph", "FRAGMENT")
_LIBRARY.define("constants(str key) -> Tensor[]")
_LIBRARY.impl("constants", _real, "CompositeExplicitAutograd")
torch.library.register_fake("qegraph::constants", _fake, lib=_LIBRARY)
