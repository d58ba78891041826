"""In-place calls become functional ones: their twins, and the aliases that decide whether that is enough."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from qegraph._torch import OpOverload, pytree, same_overload, signature, storage_key


class NeedsRetrace(Exception):
    """A write that renaming can't express, in words: other values share the written memory, or there is no twin."""


@functools.cache
def functional_twin(op: OpOverload) -> OpOverload | None:
    """The functional operator of an in-place one: `relu_` -> `relu`, with the same arguments; None if there is none."""
    name = op.name().partition("::")[2].partition(".")[0]
    if signature(op).written != (0,) or signature(op).returns != 1 or not name.endswith("_") or name.endswith("__"):
        return None
    twin = same_overload(op, name[:-1])
    if twin is None or signature(twin).written:
        return None
    arguments = [(parameter.name, parameter.type) for parameter in signature(op).parameters]
    same = arguments == [(parameter.name, parameter.type) for parameter in signature(twin).parameters]
    return twin if same else None


def hidden_write(op: OpOverload, args: tuple[Any, ...]) -> str | None:
    """Why `op` writes to memory its schema doesn't declare as written, in words; None if it doesn't."""
    given = dict(zip((parameter.name for parameter in signature(op).parameters), args, strict=True))
    training = given.get("training", given.get("use_input_stats", False))
    if training is not False and given.get("running_mean") is not None:
        return f"{op} in training mode updates its running statistics; call model.eval() first"
    if given.get("binary_post_op") == "sum":
        return f"{op} with 'sum' overwrites its operand 'other'; capture the graph before it is lowered to oneDNN ops"
    return None


class Aliases:
    """Which values may share memory: a union-find over value indices.

    Two values are joined when their fakes share a storage or an operator's schema says that they may. A visible value
    is one whose memory the caller sees: an input, parameter or buffer.
    """

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}
        self._visible: set[int] = set()
        self._by_storage: dict[int, int] = {}

    def add(self, index: int, fake: Any, may_share: Iterable[int] = ()) -> None:
        """Register value `index`, which shares memory with what its fake's storage says and with `may_share`."""
        self._parent[index] = index
        self._members[index] = [index]
        for key in storages(fake):
            self._join(self._by_storage.setdefault(key, index), index)
        for other in may_share:
            self._join(other, index)

    def mark_visible(self, index: int) -> None:
        """The caller sees the memory of value `index`."""
        self._visible.add(index)

    def sharing(self, index: int) -> Sequence[int]:
        """The values that may share memory with `index`, itself included."""
        return self._members[self._find(index)]

    def is_visible(self, index: int) -> bool:
        """Whether the caller sees the memory of `index` under its own name."""
        return index in self._visible

    def _find(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def _join(self, left: int, right: int) -> None:
        left, right = self._find(left), self._find(right)
        if left == right:
            return
        if len(self._members[left]) < len(self._members[right]):
            left, right = right, left
        self._parent[right] = left
        self._members[left].extend(self._members.pop(right))


def storages(fake: Any) -> list[int]:
    """The storage keys of the tensors in a fake value."""
    if isinstance(fake, torch.Tensor):
        found = [storage_key(fake)]
    elif isinstance(fake, (list, tuple, dict)):
        found = [storage_key(leaf) for leaf in pytree.tree_leaves(fake) if isinstance(leaf, torch.Tensor)]
    else:
        return []
    return [key for key in found if key is not None]
