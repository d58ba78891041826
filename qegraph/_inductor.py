"""What qegraph uses of Inductor's internals, imported only once torch.compile traces one of our ops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

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


def register_kernel_lowering(packet: Any) -> None:
    """Call the operators of `packet` as they are, on an activation and a residual laid out as the kernels read them.

    So what computes those writes them that way, and the operators have nothing to copy.
    """
    from torch._inductor.ir import ExternKernel
    from torch._inductor.lowering import fallback_handler, register_lowering

    def laid_out(x: Any) -> Any:
        if x is None:
            return None
        if len(x.get_size()) == 4 and "conv" in str(packet):
            return ExternKernel.require_channels_last(x)
        return x if "conv" in str(packet) else ExternKernel.require_contiguous(x)

    for name in packet.overloads():
        target = getattr(packet, name)
        if target in _registered:
            continue
        _registered.add(target)
        call = fallback_handler(target, add_to_fallback_set=False)

        @register_lowering(target, type_promotion_kind=None)
        def lower(  # pyright: ignore[reportUnusedFunction]
            x: Any, scale: Any, zero: Any, w: Any, w_scale: Any, bias: Any, other: Any, *rest: Any, call: Any = call
        ) -> Any:
            return call(laid_out(x), scale, zero, w, w_scale, bias, laid_out(other), *rest)
