"""What qegraph uses of Inductor's internals, imported only once torch.compile traces one of our ops."""

from __future__ import annotations

import logging
import warnings
import weakref
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


def _register(target: Any, lower: Callable[..., Any]) -> None:
    """Once per operator. Called from fake kernels, so that it happens when, and only when, something traces one."""
    if target in _registered:
        return
    _registered.add(target)
    logging.getLogger("torch._inductor.codecache").addFilter(_not_about_packed_weights)
    from torch._inductor.lowering import register_lowering

    register_lowering(target, type_promotion_kind=None)(lower)


Named = tuple[str, torch.Tensor]


def register_constant_lowering(target: Any, fetch: Callable[[str], Named | list[Named]]) -> None:
    """Lower `target(key)` to the graph constants `fetch(key)`, one or a list.

    Inductor's int8 lowerings want packed weights as constants, which it has by itself only under `freezing`.
    """

    def lower(key: str) -> Any:
        found = fetch(key)
        if isinstance(found, list):
            return [_add_constant(tensor, name) for name, tensor in found]
        return _add_constant(found[1], found[0])

    _register(target, lower)


def register_folding(target: Any, compute: Callable[..., torch.Tensor]) -> None:
    """Lower `target(weight, *rest)` to the graph constant `compute(weight, *rest)`, the weight being a constant.

    Weights are constants in AOTInductor, and under `freezing`; elsewhere compiling raises QegraphError.
    """

    def lower(weight: Any, *rest: Any) -> Any:
        from torch._inductor.virtualized import V

        with _torch.unset_fake_temporarily(), torch.no_grad():
            packed = compute(_plain_weight(V.graph, weight, str(target)), *rest)
        return _add_constant(packed, f"packed_{V.graph.current_node.name}")

    _register(target, lower)


def register_copy(target: Any) -> None:
    """Lower `target(x, channels_last)` to memory of its own that holds `x`, written by generated code."""

    def lower(x: Any, channels_last: bool) -> Any:
        from torch._inductor.ir import ExternKernel

        copy = ExternKernel.copy_input(x)
        return ExternKernel.require_channels_last(copy) if channels_last else ExternKernel.require_contiguous(copy)

    _register(target, lower)


def register_call(target: Any, operator: Any) -> None:
    """Lower `target` to a call of `operator`, for which Inductor would generate code otherwise."""

    def lower(*args: Any) -> Any:
        from torch._inductor.lowering import fallback_handler

        return fallback_handler(operator, add_to_fallback_set=False)(*args)

    _register(target, lower)
    _called.add(operator)
    logging.getLogger("torch._inductor.ir").addFilter(_not_about_calls)


_called: set[Any] = set()


def _not_about_calls(record: logging.LogRecord) -> bool:
    """C++ code calls them through torch's dispatcher, and Inductor warns of each; it is their work that takes time."""
    return not ("missing a c-shim" in str(record.msg) and isinstance(record.args, tuple) and record.args[0] in _called)


def _add_constant(tensor: torch.Tensor, name: str) -> Any:
    from torch._inductor.virtualized import V

    V.fake_mode.allow_non_fake_inputs = True  # operators without a lowering are run on the constant itself
    return V.graph.add_tensor_constant(tensor, name=name)


def register_kernel_lowering(target: Any) -> None:
    """Call `target`, an int8 linear or convolution, on an activation and a residual laid out as its kernels read them.

    So what computes those writes them that way, and the operator has nothing to copy.
    """

    def lower(x: Any, scale: Any, zero: Any, w: Any, w_scale: Any, b: Any, other: Any, *rest: Any) -> Any:
        from torch._inductor.lowering import fallback_handler

        _warn_of_a_package_without(target)
        call = fallback_handler(target, add_to_fallback_set=False)
        return call(_laid_out(x, target), scale, zero, w, w_scale, b, _laid_out(other, target), *rest)

    _register(target, lower)


def _warn_of_a_package_without(operator: Any) -> None:
    from torch._inductor import config
    from torch._inductor.virtualized import V

    if V.graph.aot_mode and operator not in config.aot_inductor.custom_ops_to_c_shims:
        warnings.warn(
            f"this package calls {operator}, and runs only where qegraph has defined it: "
            "qegraph.package(program, path) makes one that holds the kernels it calls",
            stacklevel=2,
        )


def _laid_out(x: Any, target: Any) -> Any:
    from torch._inductor.ir import ExternKernel

    if x is None:
        return None
    if "conv" in str(target):
        return ExternKernel.require_channels_last(x) if len(x.get_size()) == 4 else x
    return ExternKernel.require_contiguous(x)


# -- plain weights -----------------------------------------------------------------------------------------------------


class _Plain:
    """The plain weights of one graph being lowered. Those that are only packed leave its constants: a package would
    hold them twice.
    """

    def __init__(self, graph: Any) -> None:
        nodes = graph.module.graph.find_nodes(op="get_attr")
        read = [node for node in nodes if any(user.target not in _registered for user in node.users)]
        self.read_otherwise = {_storage_of(_attribute(graph.module, node.target)) for node in read}
        self.dropped: dict[str, torch.Tensor] = {}


_PLAIN: weakref.WeakKeyDictionary[Any, _Plain] = weakref.WeakKeyDictionary()


def _plain_weight(graph: Any, operand: Any, target: str) -> torch.Tensor:
    if graph not in _PLAIN:
        _PLAIN[graph] = _Plain(graph)
    plain = _PLAIN[graph]
    name = operand.get_name()
    weight = plain.dropped.get(name, graph.constants.get(name))
    if weight is None:
        raise QegraphError(
            f"{target}: Inductor's int8 kernels want their weights as constants; here one is an input of its graph: "
            "compile what qegraph.optimize or qegraph.load returned, not a program exported from it, or use AOTInductor"
        )
    if name in graph.constants and _torch.storage_key(weight) not in plain.read_otherwise:
        plain.dropped[name] = graph.constants.pop(name)
    return weight


def _storage_of(attribute: Any) -> int | None:
    return _torch.storage_key(attribute) if isinstance(attribute, torch.Tensor) else None


def _attribute(module: torch.nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found
