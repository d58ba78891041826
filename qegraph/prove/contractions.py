"""How the operands of contractions are chosen; a kernel on codes is sampled only as the rules can make it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from qegraph.facts import RANGES
from qegraph.kernels import FLOATS, accepting, activations, name_of
from qegraph.lang.terms import Expr, Kind, QParams, Tensor, subterms
from qegraph.lang.vocabulary import (
    absent,
    conv,
    float8,
    identity,
    linear,
    nothing,
    per_channel,
    per_tensor,
    real,
    vec,
)  # fmt: skip
from qegraph.prove.growers import function, optional
from qegraph.prove.leaves import Fill
from qegraph.prove.params import params, scale, stored_as, stores_float8
from qegraph.prove.sampler import Reject, Sampler, Shape, Want, grows
from qegraph.snapshot import Data
from qegraph.torch_names import dtype_name

_DEEP = 200_000
"""A sum of products of codes this long overflows int32, whatever the zero point."""


def contraction(
    s: Sampler, kind: Any, known: tuple[Any, Any], want: Want, deep: bool = False
) -> tuple[Kind, Shape, Shape]:
    """The kind, and shapes of activation and weight that go with it and with what is known of them."""
    x, w = (None if each is None else tuple(each.shape) for each in known)
    ranks = {len(each) - 2 for each in (x, w) if each is not None}
    made = _kind(s, kind, want, next(iter(ranks)) if len(ranks) == 1 else None)
    if made.head == "Linear":
        depth = w[1] if w and len(w) == 2 else x[-1] if x else _DEEP if deep else s.pick(1, 3, 8, 16, 33)
        outputs = w[0] if w else want.shape[-1] if want.shape else s.size() if depth < _DEEP else 2
        leading = want.shape[:-1] if want.shape else s.shape(s.pick(2, 2, 3, 4))[:-1] if depth < _DEEP else (1,)
        return made, x or (*leading, depth), w or (outputs, depth)
    return made, *_images(s, made, x, w, want)


def _kind(s: Sampler, pattern: Any, want: Want, dims: int | None) -> Kind:
    if pattern.is_variable:
        if pattern.head not in s.bound:
            if pattern.head not in s.hints.unpadded and dims in (None, 2) and s.odd("windows-touch"):
                s.bound[pattern.head] = conv(vec(1, 1), vec(3, 3), vec(1, 1), s.pick(1, 2, 8, 8))
                return s.bound[pattern.head]
            is_linear = not s.hints.windows and (want.shape is None or len(want.shape) != 4) and s.chance(0.5)
            unpadded = pattern.head in s.hints.unpadded and s.chance(0.9)
            s.bound[pattern.head] = linear() if is_linear and dims in (None, 0) else _conv(s, dims or 0, unpadded)
        return s.bound[pattern.head]
    if pattern.head == "Linear":
        return pattern
    if pattern.head != "Conv":
        raise Reject(f"{pattern.head} is not sampled")
    written = (len(each.args) for each in pattern.args[:3] if isinstance(each, Expr) and each.args)
    drawn = _conv(s, next(written, dims or 0)).operands
    rank = len(drawn[0].operands)
    given = [s.plain(each, lambda own=own: s.value(own)) for each, own in zip(pattern.args, drawn, strict=True)]
    if any(isinstance(each, tuple) and len(each) != rank for each in given):
        raise Reject("windows of another rank")
    stride, padding, dilation = (vec(*each) for each in given[:3])
    return conv(stride, padding, dilation, given[3])


def _conv(s: Sampler, dims: int, unpadded: bool = False) -> Kind:
    """Of this many spatial dims, mostly two. Groups are 1, all channels (written 0 until they are known) or 2."""
    rank = dims or s.pick(2, 2, 2, 2, 2, 1, 3)
    stride, padding = (vec(*[s.pick(*options)] * rank) for options in ((1, 1, 2), (0,) if unpadded else (0, 0, 1, 2)))
    return conv(stride, padding, vec(*[s.pick(1, 1, 1, 2)] * rank), s.pick(1, 1, 1, 2, 8))


def _images(s: Sampler, kind: Kind, x: Shape | None, w: Shape | None, want: Want) -> tuple[Shape, Shape]:
    stride, padding, dilation, groups = s.value(kind).args
    rank = len(stride)
    channels = x[1] if x else w[1] * groups if w else groups * s.pick(1, 1, 2, 4)
    if channels % groups:
        raise Reject("channels that don't split into groups")
    window = w[2:] if w else tuple([s.pick(3, 2) if padding[0] > 2 else s.pick(1, 1, 3, 3, 2)] * rank)
    outputs = w[0] if w else want.shape[1] if want.shape and len(want.shape) > 1 else groups * s.pick(1, 2, 5, 8)
    spatial = tuple(s.pick(5, 6, 7) for _ in range(rank))
    if want.shape is not None and len(want.shape) == rank + 2:
        reach = (d * (k - 1) for d, k in zip(dilation, window, strict=True))
        spatial = tuple(
            (o - 1) * t + 1 + r - 2 * p for o, t, r, p in zip(want.shape[2:], stride, reach, padding, strict=True)
        )
    batch = want.shape[0] if want.shape else 0 if s.is_empty() else s.pick(1, 1, 2, 3)
    return x or (batch, channels, *spatial), w or (outputs, channels // groups, *window)


@grows("Gemm")
def gemm(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    kind, x, w, b = args
    if want.shape is not None and len(want.shape) < 2:
        raise Reject("no rows")
    deep = want.shape is None and s.odd("accumulator-fits")
    made, x_shape, w_shape = contraction(s, kind, (s.known(x), s.known(w)), want, deep)
    weight = s.tensor(
        w, Want(w_shape, want.dtype if want.dtype else None if not w.is_variable else "float32", "weight")
    )
    dtype = dtype_name(s.value(weight).dtype)
    operand = s.tensor(x, Want(x_shape, dtype, "activation"))
    length = s.pick((1,), (), (1, w_shape[0])) if s.odd("bias-fits") else (w_shape[0],)
    bias = optional(s, b, Want(length, dtype if s.chance(0.9) else "float32", "statistic"), 0.7)
    return made, operand, weight, bias


@grows("Matmul")
def matmul(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x, y = args
    dtype = want.dtype
    right = s.known(y)
    if right is None and len([*subterms(x)]) > len([*subterms(y)]):
        operand = s.tensor(x, Want(None, dtype, "activation"))
        *batch, _, depth = s.value(operand).shape
        return operand, s.tensor(y, Want((*batch, depth, s.size()), None, "weight"))
    if right is None:
        batch = s.shape(s.pick(2, 2, 3, 4))[:-2]
        depth = s.pick(1, 3, 8, 16)
        rank2 = not y.is_variable and y.head == "Moved"
        free = y.is_variable and y.head in s.hints.stacks
        shape = (
            None if free else (depth, s.size()) if rank2 or s.hints.rank.get(y.head) == 2 else (*batch, depth, s.size())
        )
        right = s.value(s.tensor(y, Want(shape, dtype, "weight")))
    leading = tuple(right.shape[:-2]) if right.dim() > 2 else s.pick((), (2,), (1, 3))
    left = (*leading, s.pick(1, 2, 5), right.shape[-2])
    return s.tensor(x, Want(left, dtype_name(right.dtype), "activation")), s.tensor(y, Want(None, None, "weight"))


@grows("IntMatmul")
def int_matmul(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x, y, z = args
    depth, outputs = s.pick(8, 16, 24), s.pick(8, 16)
    rows = s.pick(1, 17, 20)
    operand = s.tensor(x, Want((rows, depth), s.pick("uint8", "int8")))
    return operand, s.tensor(y, Want((depth, outputs), "int8", "weight")), s.plain(z, lambda: s.pick(0, 0, 3, 128, 255))


@grows("HalfLinear")
def half_linear(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x, w, b, f = args
    depth, outputs = s.pick(3, 8, 16), s.size()
    leading = s.shape(s.pick(2, 3))[:-1]
    if 0 in leading:
        raise Reject("no kernel reads an empty batch")
    operand = s.tensor(x, Want((*leading, depth), "float32"))
    weight = s.leaf(Want((outputs, depth), "float16", "weight"), constant=True)
    s.bound[w.head] = weight
    return operand, weight, optional(s, b, Want((outputs,), "float32", "statistic"), 0.7), function(s, f)


# -- kernels on codes --------------------------------------------------------------------------------------------------


@grows("QGemm")
def qgemm(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    """Weights symmetric and along the outputs, a row of the kernel table: no rule makes another."""
    kind, x, qx, w, qw, b, other, qo, f, out = args
    made, x_shape, w_shape = contraction(s, kind, (s.known(x), s.known(w)), want)
    if 0 in x_shape:
        raise Reject("no kernel reads an empty batch")
    if made.head == "Conv" and not _touches(s.value(made), w_shape):
        raise Reject("windows wholly in the padding")
    row = _row(s, made, (other, qo, f, out))
    codes = _codes_read(s, made, qx)
    qx_made = (
        params(s, qx, "activation", codes) if not qx.is_variable or qx.head in s.bound else _activation(s, qx, codes)
    )
    operand = s.tensor(x, Want(x_shape, stored_as(qx_made)))
    weight_dtype = "float8_e4m3fn" if stored_as(qx_made) == "float8_e4m3fn" else "int8"
    weight = _weight(s, w, Want(w_shape, weight_dtype, "weight"))
    qw_made = _weight_params(s, qw, w_shape, weight_dtype)
    bias = optional(s, b, Want((w_shape[0],), "float32", "statistic"), 0.7)
    product = s.value(_product(made, operand, qx_made, weight, qw_made, bias))
    residual, qo_made = _residual(s, (other, qo), row, product)
    function_ = function(s, f, (row[3],)) if f.is_variable else f
    stored = _output(s, out, row, product, qx_made, qo_made)
    return made, operand, qx_made, weight, qw_made, bias, residual, qo_made, function_, stored


def _touches(kind: Data, w_shape: Shape) -> bool:
    _, padding, dilation, _ = kind.args
    return all(p <= d * (k - 1) for p, d, k in zip(padding, dilation, w_shape[2:], strict=True))


def _product(kind: Kind, *operands: Any) -> Tensor:
    """The contraction alone."""
    return Tensor("QGemm", (kind, *operands, nothing(), absent(), identity(), real("float32")))


def _row(s: Sampler, kind: Kind, given: tuple[Any, ...]) -> tuple[str, str, str, str]:
    """A row of the kernel table: kind, storage of the residual and of the output, function."""
    other, qo, f, out = given
    name = "linear" if kind.head == "Linear" else f"conv{len(s.value(kind).args[0])}d"
    rows = [row for row in accepting() if row[0] == name]
    if other.head == "Nothing" or qo.head == "Absent":
        rows = [row for row in rows if row[1] == "absent"]
    elif not qo.is_variable or not other.is_variable:
        rows = [row for row in rows if (row[1] in FLOATS if qo.head == "Real" else row[1] != "absent")]
    fixed = s.bound.get(f.head) if f.is_variable else f
    if fixed is not None:
        rows = [row for row in rows if row[3] == _name(s, fixed)]
    stored = s.bound.get(out.head) if out.is_variable else out
    if out.is_variable and out.head in s.hints.codes_out:
        rows = [row for row in rows if row[2] == "codes"] or rows
    if stored is not None and not (stored.head == "Real" and isinstance(stored.args[0], Expr)):
        storage = stored.args[0] if stored.head == "Real" else "codes"
        rows = [row for row in rows if row[2] == storage]
    if not rows:
        raise Reject("no kernel")
    fused = [row for row in rows if row[1] != "absent" or row[3] != "identity"]
    return s.pick(*(fused if fused and s.chance(0.6) else rows))


def _name(s: Sampler, f: Any) -> str:
    data = s.value(f)
    assert isinstance(data, Data)
    return name_of(data)


def _codes_read(s: Sampler, kind: Kind, qx: Any) -> str:
    if qx.is_variable and qx.head in s.bound:
        return stored_as(s.bound[qx.head])
    if not qx.is_variable and qx.head == "PerTensor" and isinstance(qx.args[4], str):
        return qx.args[4]
    name = "linear" if kind.head == "Linear" else f"conv{len(s.value(kind).args[0])}d"
    options = [dtype for each, dtype in activations() if each == name]
    plain = [each for each in options if each in ("uint8", "int8")]
    options = options if stores_float8() else plain
    is_plain = not qx.is_variable or s.chance(0.1 if s.hints.float8 else 0.95)
    return s.pick(*(plain if is_plain else options))


def _activation(s: Sampler, qx: Any, codes: str) -> Any:
    """One scale, positive."""
    while qx.head not in s.bound:
        made = params(s, qx, "activation", codes)
        args = made.operands
        sound = made.head in ("PerTensor", "Float8") and args[0] > 0
        if made.head == "PerChannel" or not (sound or made.head == "Dynamic"):
            del s.bound[qx.head]
    return s.bound[qx.head]


def _weight(s: Sampler, w: Any, want: Want) -> Any:
    if w.is_variable and w.head not in s.bound:
        s.bound[w.head] = s.leaf(want, constant=True)
    return s.tensor(w, want)


def _weight_params(s: Sampler, qw: Any, shape: Shape, dtype: str) -> Any:
    if not qw.is_variable:
        return params(s, qw, "weight", dtype, shape)
    if qw.head not in s.bound:
        if dtype != "int8":
            s.bound[qw.head] = float8(abs(scale(s, None, 1.0)))
        elif s.chance(0.3):
            s.bound[qw.head] = per_tensor(abs(scale(s, None, 1.0)), 0, -128, 127, "int8")
        else:
            fill = Fill("positive", math.exp(s.random.uniform(math.log(1e-4), math.log(1.0))))
            scales = s.leaf(Want((shape[0],), "float32"), constant=True, fill=fill)
            zeros = s.leaf(Want((shape[0],), "int64"), constant=True, fill=Fill("zeros"))
            s.bound[qw.head] = per_channel(scales, zeros, 0, -128, 127, "int8")
    return s.bound[qw.head]


def _residual(s: Sampler, given: tuple[Any, Any], row: tuple[str, ...], product: torch.Tensor) -> tuple[Any, Any]:
    other, qo = given
    if row[1] == "absent":
        for each, made in ((other, nothing()), (qo, absent())):
            if each.is_variable:
                s.bound[each.head] = made
        return nothing(), absent()
    shape = tuple(product.shape)
    if row[1] != "codes":
        term = s.tensor(other, Want(shape, row[1]))
        if qo.is_variable:
            s.bound[qo.head] = real(row[1])
        elif qo.head == "Real" and isinstance(qo.args[0], Expr):
            s.dtype(qo.args[0], row[1])
        return term, s.bound[qo.head] if qo.is_variable else real(row[1])
    dtype = s.pick("uint8", "int8")
    if qo.is_variable and qo.head not in s.bound:
        low, high = RANGES[dtype]
        s.bound[qo.head] = per_tensor(abs(scale(s, product, 100.0)), s.random.randint(low, high), low, high, dtype)
    made = params(s, qo, "output", dtype)
    return s.tensor(other, Want(shape, stored_as(made))), made


def _output(s: Sampler, out: Any, row: tuple[str, ...], product: torch.Tensor, qx: QParams, qo: QParams) -> QParams:
    if out.is_variable and out.head not in s.bound:
        if row[2] != "codes":
            s.bound[out.head] = real(row[2])
        elif stored_as(qx) == "float8_e4m3fn":
            raise Reject("float8 kernels store floats")
        else:
            dtype = stored_as(qo) if row[1] == "codes" else s.pick("uint8", "int8")
            low, high = RANGES[dtype]
            s.bound[out.head] = per_tensor(abs(scale(s, product, 100.0)), s.random.randint(low, high), low, high, dtype)
    return params(s, out, "output", None, (), product)
