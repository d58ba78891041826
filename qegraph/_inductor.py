"""What qegraph uses of Inductor's internals, imported only once torch.compile traces one of our ops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from qegraph import _torch
from qegraph.errors import QegraphError

_registered: set[Any] = set()


def _not_about_packed_weights(record: logging.LogRecord) -> bool:
    """Inductor can't write a graph with packed weights to its disk cache, and says so with a stack trace each time."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, NotImplementedError) and "OpaqueTensorImpl" in str(error))


def register_constant_lowering(target: Any, fetch: Callable[[str], torch.Tensor]) -> None:
    """Lower `target(key)` to the graph constant `fetch(key)`.

    Inductor's int8 lowerings want packed weights as constants, which it has by itself only under `freezing`. Called
    from the op's fake kernel, so that it happens when, and only when, something traces the op.
    """
    if target in _registered:
        return
    _registered.add(target)
    logging.getLogger("torch._inductor.codecache").addFilter(_not_about_packed_weights)
    from torch._inductor.lowering import register_lowering
    from torch._inductor.virtualized import V

    @register_lowering(target, type_promotion_kind=None)
    def lower(key: str) -> Any:  # pyright: ignore[reportUnusedFunction]
        V.fake_mode.allow_non_fake_inputs = True  # operators without a lowering are run on the constant itself
        return V.graph.add_tensor_constant(fetch(key), name=f"packed_{key}")


def register_folding(target: Any, compute: Callable[..., torch.Tensor]) -> None:
    """Lower `target(*operands)` to the graph constant `compute(*operands)`, its tensors being constants of the graph.

    They are so in AOTInductor, and under `freezing`. What nothing else reads is dropped, so that a package doesn't hold
    a weight twice.
    """
    if target in _registered:
        return
    _registered.add(target)
    logging.getLogger("torch._inductor.codecache").addFilter(_not_about_packed_weights)
    from torch._inductor.lowering import register_lowering
    from torch._inductor.virtualized import V

    @register_lowering(target, type_promotion_kind=None)
    def lower(*operands: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        V.fake_mode.allow_non_fake_inputs = True
        with _torch.unset_fake_temporarily(), torch.no_grad():
            packed = compute(*(_constant(item, str(target)) for item in operands))
        return V.graph.add_tensor_constant(packed, name=f"packed_{V.graph.current_node.name}")


def _constant(operand: Any, target: str) -> Any:
    """The tensor a constant of the graph being lowered stands for; what is no tensor is itself."""
    from torch._inductor.ir import IRNode
    from torch._inductor.virtualized import V

    if not isinstance(operand, IRNode):
        return operand
    found = V.graph.constants.get(operand.get_name())
    if found is None:
        raise QegraphError(
            f"{target}: Inductor's int8 kernels want their weights as constants; here one is an input of its graph: "
            "compile what qegraph.optimize or qegraph.load returned, not a program exported from it, or use AOTInductor"
        )
    return found
