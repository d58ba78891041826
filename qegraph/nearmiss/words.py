"""Values of the e-graph in the words of the user's graph: source names, ranges, parameters."""

from __future__ import annotations

import math
from typing import Any

import torch

from qegraph.nearmiss.tables import Tables
from qegraph.snapshot import ClassRef, Data

_MAX_WORDS = 3


def name(tables: Tables, eclass: int) -> str:
    """The source's name of a value; else the words it is made of."""
    source = tables.source(eclass)
    words = tables.words(eclass)
    return source or (f"a {words[0]} that is in no source" if words else "a value given up for a more exact one")


def described(tables: Tables, eclass: int) -> str:
    """The name of a value with what it is: "y, an input, float32 [5, 16]"."""
    what: list[str] = [name(tables, eclass)]
    kinds = {tables.program.values[index].kind for index in tables.snapshot.sources.get(eclass, ())}
    what += [f"an {kind}" if kind == "input" else f"a {kind}" for kind in ("input", "constant") if kind in kinds]
    if not kinds & {"input", "constant"}:
        words = tables.words(eclass)
        what.append("/".join(words[:_MAX_WORDS]) + ("/…" if len(words) > _MAX_WORDS else "") or "nothing")
    dtype, shape = tables.snapshot.dtype.get(eclass), tables.snapshot.shape.get(eclass)
    if dtype is not None and shape is not None:
        what.append(f"{dtype} {dims(tables, shape)}")
    return ", ".join(what)


def dims(tables: Tables, sizes: tuple[int, ...]) -> str:
    """Sizes, those of symbolic dims by their expression."""
    return f"[{', '.join(tables.symbols.get(size, str(size)) for size in sizes)}]"


def shown(tables: Tables, value: Any) -> str:
    """Any value a variable of a rule may stand for."""
    if isinstance(value, ClassRef):
        return described(tables, value.number)
    if isinstance(value, Data):
        return attribute(tables, value)
    if isinstance(value, tuple):
        return dims(tables, value)
    return number(value)


def number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def attribute(tables: Tables, data: Data) -> str:
    """Quantization parameters, a kind of contraction, a function or a move."""
    writer = _WRITERS.get(data.name)
    if writer is not None:
        return writer(tables, *data.args)
    args = ", ".join(_operand(tables, arg) for arg in data.args)
    return f"{data.name.lower()} {args}".strip()


def _operand(tables: Tables, arg: Any) -> str:
    return name(tables, arg.number) if isinstance(arg, ClassRef) else shown(tables, arg)


def _per_tensor(_: Tables, scale: float, zero: int, low: int, high: int, dtype: str) -> str:
    return f"scale {number(scale)}, zero point {zero}, {low}..{high} of {dtype}"


def _per_channel(tables: Tables, scales: ClassRef, zeros: ClassRef, axis: int, low: int, high: int, dtype: str) -> str:
    return (
        f"scales {_spread(tables, scales)} and zero points {_spread(tables, zeros)} along axis {axis}, "
        f"{low}..{high} of {dtype}"
    )


def _dynamic(tables: Tables, scale: ClassRef, zero: ClassRef, low: int, high: int, dtype: str) -> str:
    chosen = f"{name(tables, scale.number)} and {name(tables, zero.number)}"
    return f"scale and zero point computed as {chosen}, {low}..{high} of {dtype}"


def _spread(tables: Tables, of: ClassRef) -> str:
    """The least and the largest number of a constant, with its dtype and shape; or what computes it."""
    constant = tables.constant(of.number)
    if constant is None or constant.numel() == 0:
        return described(tables, of.number)
    low, high = (number(each.item()) for each in torch.aminmax(constant))
    kept = f"{str(constant.dtype).removeprefix('torch.')} {list(constant.shape)}"
    return f"{low if low == high else f'{low}..{high}'} ({kept})"


def _function(_: Tables, word: str, a: float, b: float) -> str:
    if word == "clamp":
        return "relu" if (a, b) == (0.0, math.inf) else f"clamp({number(a)}, {number(b)})"
    return f"{word}({number(a)})" if a else word


def _conv(
    tables: Tables, stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> str:
    sizes = (f"{key} {dims(tables, each)}" for key, each in
             (("stride", stride), ("padding", padding), ("dilation", dilation)))  # fmt: skip
    return f"conv{len(stride)}d with {', '.join(sizes)}, groups {groups}"


_WRITERS: dict[str, Any] = {
    "PerTensor": _per_tensor,
    "PerChannel": _per_channel,
    "Dynamic": _dynamic,
    "Fn": _function,
    "Conv": _conv,
    "Real": lambda _, dtype: dtype,
    "Float8": lambda _, scale: f"scale {number(scale)}, float8_e4m3fn",
    "Rearrange": lambda _, operator, *__: operator,
}
