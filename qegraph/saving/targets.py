"""Names of what a graph calls. A file names operators and a few functions; nothing else can be called from one."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch

from qegraph import borders, copies, native
from qegraph._torch import HigherOrderOperator, OpOverload, signature
from qegraph.errors import LoadError, SaveError

_ARITHMETIC = (
    *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg),
    *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.getitem),
    *(math.floor, math.ceil, math.trunc, torch.sym_int, torch.sym_float, torch.sym_max, torch.sym_min),
)
"""What graphs do with symbolic sizes and with operators that return several tensors."""

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{f"function.{each.__name__}": each for each in _ARITHMETIC},
    "function.quantize_per_tensor": borders.quantize_per_tensor,
    "function.dequantize_per_tensor": borders.dequantize_per_tensor,
    "function.clamp": borders.clamp,
    "function.scratch": copies.scratch,
}
_NAMES: Mapping[Any, str] = {function: name for name, function in _FUNCTIONS.items()}

_WITH_BODIES = ("cond", "while_loop", "wrap_with_autocast", "wrap_with_set_grad_enabled")
"""Higher-order operators: their bodies are graphs of the same file."""


def name_of(target: Any) -> str:
    """E.g. "aten.relu.default". Raises SaveError for what has no name in a file."""
    if isinstance(target, OpOverload):
        return str(target)
    if isinstance(target, HigherOrderOperator) and target.name() in _WITH_BODIES:
        return f"higher_order.{target.name()}"
    if target in _NAMES:
        return _NAMES[target]
    raise SaveError(
        f"the graph calls {target!r}, which is Python code and no operator; a file holds data only: "
        "use torch.export on the model before it is quantized and optimised"
    )


def target_of(name: str) -> Callable[..., Any]:
    """What `name_of` named. Raises LoadError for an operator that isn't there, and for what a file may not call."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    kind, _, rest = name.partition(".")
    if kind == "higher_order" and rest in _WITH_BODIES:
        return getattr(torch.ops.higher_order, rest)
    if name in native.NAMES and (reason := native.unavailable()):
        raise LoadError(f"the graph calls kernels of our own, which can't be had here: {reason}")
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None) if part.isidentifier() and not part.startswith("__") else None
    if not isinstance(found, OpOverload):
        raise LoadError(
            f"there is no operator {name} in torch {torch.__version__}; if another package defines it ({kind}?), "
            "import that first"
        )
    if any(parameter.name == "filename" for parameter in signature(found).parameters):
        raise LoadError(f"the operator {name} opens files, which no optimised module does: this file isn't trusted")
    return found
