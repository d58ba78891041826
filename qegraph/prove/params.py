"""How quantization parameters are chosen: ordinary ones, and the odd ones that guards are there for."""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Any

import torch

from qegraph._torch import has_cpu_kernel
from qegraph.facts import RANGES
from qegraph.lang.terms import QParams
from qegraph.lang.vocabulary import absent, dynamic, float8, per_channel, per_tensor, real
from qegraph.prove.leaves import Fill
from qegraph.prove.sampler import Reject, Sampler, Shape, Want

WIDE = {"int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1)}


def params(
    s: Sampler, pattern: Any, role: str, codes: str | None = None, shape: Shape = (), like: Any = None
) -> QParams:
    """Parameters for a value of this shape. codes  the dtype it is stored in, if that is known; like  the value that
    is quantized, whose range ordinary scales fit.
    """
    if pattern.is_variable:
        if pattern.head not in s.bound:
            s.bound[pattern.head] = _chosen(s, role, codes, shape, like)
        return s.bound[pattern.head]
    if pattern.head == "PerTensor":
        return _fitted(s, pattern.args, role, codes, like)
    if pattern.head == "PerChannel":
        scales, zeros, axis, low, high, dtype = pattern.args
        return _channels(s, role, codes, shape, (scales, zeros), (axis, low, high, dtype))
    if pattern.head == "Float8":
        return float8(s.number(pattern.args[0]))
    if pattern.head == "Real":
        return real(s.dtype(pattern.args[0], codes))
    if pattern.head == "Absent":
        return absent()
    raise Reject(f"parameters {pattern.head} occur in no source")


def stored_as(q: QParams) -> str:
    """The dtype of what has these parameters."""
    if q.head == "Float8":
        return "float8_e4m3fn"
    return str(q.operands[-1]) if q.operands else ""


def _chosen(s: Sampler, role: str, codes: str | None, shape: Shape, like: Any) -> QParams:
    if codes == "float8_e4m3fn" or (codes is None and s.chance(0.04) and stores_float8()):
        return float8(scale(s, like, 448.0))
    if role == "weight":
        return _of_weight(s, codes, shape)
    if shape and s.odd("per-tensor-params", "activation-params"):
        return _channels(s, role, codes, shape, (None, None), (None, None, None, None))
    if s.chance(0.08):
        return _dynamic(s, codes)
    return _fitted(s, (None,) * 5, role, codes, like)


@functools.cache
def stores_float8() -> bool:
    """Its quantize and dequantize are torchao's operators: registered by importing that, if it is installed."""
    if importlib.util.find_spec("torchao") is None:
        return False
    importlib.import_module("torchao")
    return has_cpu_kernel("torchao::quantize_affine_float8_non_decomposed")


def _of_weight(s: Sampler, codes: str | None, shape: Shape) -> QParams:
    """Mostly as quantizers make them; else with zero points, another axis, bad scales or another dtype."""
    if s.chance(0.3):
        return _fitted(s, (None, 0 if s.chance(0.8) else None, None, None, None), "weight", codes or "int8", None)
    return _channels(s, "weight", codes, shape, (None, None), (None, None, None, None))


def _channels(
    s: Sampler, role: str, codes: str | None, shape: Shape, leaves: tuple[Any, Any], rest: tuple[Any, ...]
) -> QParams:
    if not shape:
        raise Reject("no axis for parameters per channel")
    weight = role == "weight"
    axis, low, high, dtype = rest
    chosen = s.plain(dtype, lambda: None) if dtype is not None else None
    dtype_name = chosen or codes or ("int8" if weight and s.chance(0.95) else s.pick("int8", "uint8"))
    if dtype is not None and dtype.is_variable:
        s.bound[dtype.head] = dtype_name
    the_axis = s.plain(axis, lambda: _axis(s, weight, len(shape))) if axis is not None else _axis(s, weight, len(shape))
    if not isinstance(the_axis, int) or the_axis >= len(shape):
        raise Reject("no such axis")
    full = RANGES[dtype_name]
    bounds = [
        each if given is None else s.plain(given, lambda each=each: each)
        for given, each in zip((low, high), full, strict=True)
    ]
    size = shape[the_axis]
    fill = Fill("positive", math.exp(s.random.uniform(math.log(1e-4), math.log(2.0))))
    if s.odd("weight-scales"):
        fill = Fill("floats")  # negative ones among them
    given_scales, given_zeros = leaves
    is_symmetric = s.chance(0.85 if weight else 0.5) and bounds[0] <= 0
    zero_fill = Fill("zeros") if is_symmetric else Fill("codes")
    zeros_want = Want((size,), "int64" if is_symmetric else dtype_name)
    if given_scales is None:
        scales = s.leaf(Want((size,), "float32", "statistic"), constant=True if weight else None, fill=fill)
        zeros = s.leaf(zeros_want, constant=True, fill=zero_fill)
    else:
        for each, want, its in ((given_scales, Want((size,), "float32"), fill), (given_zeros, zeros_want, zero_fill)):
            if each.head not in s.bound:
                s.bound[each.head] = s.leaf(want, each.head, constant=True, fill=its)
        scales, zeros = s.bound[given_scales.head], s.bound[given_zeros.head]
    return per_channel(scales, zeros, the_axis, bounds[0], bounds[1], dtype_name)


def _axis(s: Sampler, weight: bool, rank: int) -> int:
    return 0 if weight and not s.odd("weight-axis") else s.random.randrange(rank)


def _dynamic(s: Sampler, codes: str | None) -> QParams:
    dtype = codes if codes in RANGES else s.pick("uint8", "int8")
    scales = s.leaf(Want(s.pick((), (1,)), "float32"), constant=False, fill=Fill("positive", 0.02))
    zeros = s.leaf(Want(s.pick((), (1,)), s.pick("int32", "int64")), constant=False, fill=Fill("fixed"))
    return dynamic(scales, zeros, *RANGES[dtype], dtype)


def _fitted(s: Sampler, given: tuple[Any, ...], role: str, codes: str | None, like: Any) -> QParams:
    """Per-tensor parameters; those that the pattern fixes, or that are bound already, as they are."""
    scale_, zero, low, high, dtype = given
    dtype_name = codes or (
        "int8" if role == "weight" else s.pick("uint8", "uint8", "uint8", "int8", "int8", s.pick("uint8", *WIDE))
    )
    dtype_name = dtype_name if dtype is None else s.plain(dtype, lambda: dtype_name)
    if codes is not None and dtype_name != codes:
        raise Reject(f"{codes} is not {dtype_name}")
    full = RANGES.get(dtype_name) or WIDE.get(dtype_name)
    if full is None:
        raise Reject(f"no codes are {dtype_name}")
    narrow = {"uint8": (0, 127), "int8": (-127, 127)}.get(dtype_name, full)
    bounds = narrow if s.chance(0.25 if role != "weight" else 0.5) else full
    lo = bounds[0] if low is None else s.plain(low, lambda: bounds[0])
    hi = bounds[1] if high is None else s.plain(high, lambda: bounds[1])
    if not full[0] <= lo <= hi <= full[1]:
        raise Reject("the range is not one of the dtype")
    z = _zero_point(s, lo, hi) if zero is None else s.plain(zero, lambda: _zero_point(s, lo, hi))
    chosen = scale(s, like, float(min(hi - lo, 255)) / 2)
    return per_tensor(chosen if scale_ is None else s.plain(scale_, lambda: chosen), z, lo, hi, dtype_name)


def _zero_point(s: Sampler, low: int, high: int) -> int:
    if s.odd("is-code"):
        return s.pick(low - 3, high + 5)
    if high - low > 1000:
        return s.pick(0, 0, 7, -11)
    return s.pick(low, high, (low + high + 1) // 2, max(low, 0), max(low, 0), s.random.randint(low, high))


def scale(s: Sampler, like: Any, codes: float) -> float:
    """Mostly such that `like` fills the range; else anything from 1e-4 to 10. Powers of two make ties exact."""
    sign = -1 if s.odd("positive-scale", "activation-scale", "weight-scales") else 1
    chosen = math.exp(s.random.uniform(math.log(1e-4), math.log(10.0)))
    if isinstance(like, torch.Tensor) and like.numel() and s.chance(0.75):
        largest = float(like.detach().double().abs().max())
        if math.isfinite(largest) and largest > 0:
            chosen = largest / codes * s.random.uniform(0.4, 2.0)
    chosen = 2.0 ** round(math.log2(chosen)) if s.chance(0.2) else float(torch.tensor(chosen, dtype=torch.float32))
    return sign * chosen
