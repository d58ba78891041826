"""The vocabulary: every word a rule may use. The whole int8 dialect fits on these pages.

Each function builds a term; its docstring is the word's meaning. What an operator of torch is read into, what a word
costs and what it is emitted as stands in `qegraph.ops`.
"""

from __future__ import annotations

import math

from qegraph.lang.constants import cut as cut
from qegraph.lang.constants import cut_params as cut_params
from qegraph.lang.constants import filled as filled
from qegraph.lang.constants import joined as joined
from qegraph.lang.constants import joined_params as joined_params
from qegraph.lang.constants import norm_factor as norm_factor
from qegraph.lang.constants import norm_shift as norm_shift
from qegraph.lang.constants import offset_bias as offset_bias
from qegraph.lang.constants import product as product
from qegraph.lang.constants import scaled as scaled
from qegraph.lang.constants import total as total
from qegraph.lang.terms import (
    Dims,
    Integer,
    Kind,
    Move,
    Number,
    QParams,
    Tensor,
    Tensors,
    Text,
    UnaryFn,
    constructor,
)

# -- leaves ------------------------------------------------------------------------------------------------------------


@constructor("Leaf")
def leaf(index: Integer | int) -> Tensor:
    """An input or constant of the program, by value index."""
    raise NotImplementedError


@constructor("Scalar")
def scalar(value: Number | float) -> Tensor:
    """A Python number as operand of an elementwise operator; it has no dtype and no shape of its own."""
    raise NotImplementedError


@constructor("Nothing")
def nothing() -> Tensor:
    """The operand that isn't there: no bias, no residual."""
    raise NotImplementedError


@constructor("Opaque")
def opaque(uid: Integer | int, operands: Tensors) -> Tensor:
    """Any operator we don't model; equal uid and operands mean equal values."""
    raise NotImplementedError


# -- quantization parameters -------------------------------------------------------------------------------------------


@constructor("PerTensor")
def per_tensor(
    scale: Number | float, zero_point: Integer | int, low: Integer | int, high: Integer | int, dtype: Text | str
) -> QParams:
    """code = clamp(rne(x / scale) + zero_point, low, high), stored as dtype."""
    raise NotImplementedError


@constructor("PerChannel")
def per_channel(
    scales: Tensor, zero_points: Tensor, axis: Integer | int, low: Integer | int, high: Integer | int, dtype: Text | str
) -> QParams:
    """`per_tensor` with one scale and zero point for each index along `axis`."""
    raise NotImplementedError


@constructor("Float8")
def float8(scale: Number | float) -> QParams:
    """code = clamp(x / scale, -448, 448) rounded to float8_e4m3fn; x = code * scale."""
    raise NotImplementedError


@constructor("Blocks4")
def blocks4(scales: Tensor, zero_points: Tensor, compensation: Tensor) -> QParams:
    """The parameters of `linear4` weights, (outputs / n, groups, n), and what the kernel needs of their sums."""
    raise NotImplementedError


@constructor("Groups4")
def groups4(scales_and_zeros: Tensor, group: Integer | int) -> QParams:
    """The parameters of `weight_only4` weights, (inputs / group, outputs, 2): w = (code - 8) * scale + zero."""
    raise NotImplementedError


@constructor("Dynamic")
def dynamic(scale: Tensor, zero_point: Tensor, low: Integer | int, high: Integer | int, dtype: Text | str) -> QParams:
    """`per_tensor` with a scale and a zero point computed at run time (one element each)."""
    raise NotImplementedError


@constructor("Real")
def real(dtype: Text | str) -> QParams:
    """Not quantized: plain floats of this dtype."""
    raise NotImplementedError


@constructor("Absent")
def absent() -> QParams:
    """The parameters of the operand that isn't there."""
    raise NotImplementedError


@constructor("Quantize")
def quantize(x: Tensor, q: QParams) -> Tensor:
    """Integer codes of x under q."""
    raise NotImplementedError


@constructor("Dequantize")
def dequantize(x: Tensor, q: QParams, dtype: Text | str) -> Tensor:
    """(x - zero_point) * scale, as floats of dtype. q's range plays no part and is stored as the dtype's own."""
    raise NotImplementedError


@constructor("Flip")
def flip(x: Tensor) -> Tensor:
    """XOR with 0x80: int8 codes as uint8 codes with the zero point moved up by 128, and back."""
    raise NotImplementedError


# -- contractions ------------------------------------------------------------------------------------------------------


@constructor("Linear")
def linear() -> Kind:
    """y[..., n] = sum_k x[..., k] * w[n, k]"""
    raise NotImplementedError


@constructor("Conv")
def conv(stride: Dims, padding: Dims, dilation: Dims, groups: Integer | int) -> Kind:
    """Convolution (cross-correlation) of rank len(stride) with zero padding; never transposed."""
    raise NotImplementedError


@constructor("Linear4")
def linear4() -> Kind:
    """`linear` over 4-bit weights in torchao's blocks: (outputs / n, inputs / k, k, n / 2) bytes."""
    raise NotImplementedError


@constructor("WeightOnly4")
def weight_only4() -> Kind:
    """`linear` of floats over 4-bit weights as aten packs them: (outputs, inputs / 2) bytes, in blocks of rows."""
    raise NotImplementedError


@constructor("Gemm")
def gemm(kind: Kind, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """kind(x, w) + b, in floats. b is a vector over output channels, or `nothing()`."""
    raise NotImplementedError


@constructor("Matmul")
def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product over the last two dims; leading dims equal on both sides (mm, bmm, matmul)."""
    raise NotImplementedError


@constructor("QGemm")
def qgemm(
    kind: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor,
    other: Tensor, qo: QParams, f: UnaryFn, out: QParams,
) -> Tensor:  # fmt: skip
    """The oneDNN int8 contraction, as stored in `out`: f(kind(dq(x), dq(w)) + b + dq(other)).

    Accumulates in int32, then works in float32; `out` and `qo` may be `real(dtype)`; no residual is
    `nothing(), absent()`; no post-op is `identity()`. Numerics: `qegraph.kernels`. Kinds of 4-bit weights are other
    kernels, in their own arithmetic; that of `weight_only4` reads plain floats, so there qx is `real(dtype)` too.
    """
    raise NotImplementedError


@constructor("PadCodes")
def pad_codes(x: Tensor, padding: Dims, value: Integer | int) -> Tensor:
    """Codes x of an image with `value` around it, padding[0] rows and padding[1] columns on either side."""
    raise NotImplementedError


@constructor("IntMatmul")
def int_matmul(x: Tensor, y: Tensor, zero_point: Integer | int) -> Tensor:
    """sum_k (x[m, k] - zero_point) * y[k, n] of int8 or uint8 matrices, exactly, as int32."""
    raise NotImplementedError


@constructor("WeightOnly")
def weight_only(x: Tensor, w: Tensor, s: Tensor) -> Tensor:
    """sum_k x[..., k] * w[n, k] * s[n] of a float x, constant int8 w and constant s of x's dtype, rounded once."""
    raise NotImplementedError


@constructor("HalfLinear")
def half_linear(x: Tensor, w: Tensor, b: Tensor, f: UnaryFn) -> Tensor:
    """f(linear(x, w) + b) of a float32 x and a constant, finite float16 w; f is the identity or relu."""
    raise NotImplementedError


@constructor("BatchNorm")
def batch_norm(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, eps: Number | float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * w + b, with the given statistics, along dim 1."""
    raise NotImplementedError


@constructor("QBatchNorm")
def qbatch_norm(
    x: Tensor, qx: QParams, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, eps: Number | float, out: QParams
) -> Tensor:
    """The oneDNN kernel of batch_norm(dequantize(x, qx), ...), stored as `out`, codes or `real("float32")`."""
    raise NotImplementedError


@constructor("EmbeddingBag")
def embedding_bag(w: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    """y[i] = the sum of w[indices[j]] for offsets[i] <= j < offsets[i + 1]; the last offset is the end."""
    raise NotImplementedError


@constructor("QEmbeddingBag")
def qembedding_bag(w: Tensor, qw: QParams, indices: Tensor, offsets: Tensor, out: QParams) -> Tensor:
    """torchao's kernel of embedding_bag(dequantize(w, qw), ...), stored as `out`. It wants no bag to be empty."""
    raise NotImplementedError


@constructor("Softmax")
def softmax(x: Tensor, scale: Number | float, mask: Tensor) -> Tensor:
    """softmax(x * scale + mask) over the last dim; the mask may be `nothing()`."""
    raise NotImplementedError


@constructor("QAttention")
def qattention(
    x: Tensor, qx: QParams, key: Tensor, qk: QParams, value: Tensor, qv: QParams,
    scale: Number | float, mask: Tensor, qa: QParams, out: QParams,
) -> Tensor:  # fmt: skip
    """torchao's kernel of attention on codes (batch, heads, tokens, channels): the scores x key^T, `softmax` of them
    stored under qa, times value, stored as `out`.
    """
    raise NotImplementedError


# -- elementwise -------------------------------------------------------------------------------------------------------


@constructor("Fn")
def fn(name: Text | str, a: Number | float, b: Number | float) -> UnaryFn:
    """An elementwise function by name; a and b are its parameters, 0 where it has none."""
    raise NotImplementedError


@constructor("ClampCodes")
def clamp_codes(low: Number | float, high: Number | float, q: QParams) -> UnaryFn:
    """On codes: min(max(x, quantize(low, q)), quantize(high, q))."""
    raise NotImplementedError


@constructor("Unary")
def unary(f: UnaryFn, x: Tensor) -> Tensor:
    """f of every element."""
    raise NotImplementedError


@constructor("Add", commutative=True)
def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y, broadcasting, alpha 1."""
    raise NotImplementedError


@constructor("Mul", commutative=True)
def mul(x: Tensor, y: Tensor) -> Tensor:
    """x * y, broadcasting."""
    raise NotImplementedError


@constructor("Div")
def div(x: Tensor, y: Tensor) -> Tensor:
    """x / y, broadcasting, true division."""
    raise NotImplementedError


@constructor("QBinary")
def qbinary(name: Text | str, x: Tensor, qx: QParams, y: Tensor, qy: QParams, out: QParams) -> Tensor:
    """The oneDNN kernel of quantize(name(dequantize(x, qx), dequantize(y, qy)), out); name is a key of
    `qegraph.kernels.ELEMENTWISE`.
    """
    raise NotImplementedError


@constructor("Cast")
def cast(x: Tensor, dtype: Text | str) -> Tensor:
    """The values of x, integers or floats, as floats of another dtype, rounded to nearest even."""
    raise NotImplementedError


# -- rearrangements ----------------------------------------------------------------------------------------------------


@constructor("View")
def view(shape: Dims) -> Move:
    """The same elements in row-major order under another shape."""
    raise NotImplementedError


@constructor("Permute")
def permute(order: Dims) -> Move:
    """Dimension i of the result is dimension order[i] of the operand."""
    raise NotImplementedError


@constructor("Expand")
def expand(shape: Dims) -> Move:
    """Broadcast to shape."""
    raise NotImplementedError


@constructor("Rearrange")
def rearrange(operator: Text | str, uid: Integer | int, others: Tensors) -> Move:
    """Slices, flips, gathers and the like: what the source's call `uid` does, with `others` as its other operands."""
    raise NotImplementedError


@constructor("Moved")
def move(m: Move, x: Tensor) -> Tensor:
    """x rearranged by m."""
    raise NotImplementedError


@constructor("Pad")
def pad(x: Tensor, amounts: Dims, value: Number | float) -> Tensor:
    """x with `value` around it; amounts are before and after for each dim, the last dim first, as torch orders them."""
    raise NotImplementedError


@constructor("Part")
def part(x: Tensor, start: Integer | int, length: Integer | int) -> Tensor:
    """x[..., start : start + length]"""
    raise NotImplementedError


@constructor("MaxPool")
def max_pool(x: Tensor, kernel: Dims, stride: Dims, padding: Dims, dilation: Dims, ceil: Integer | int) -> Tensor:
    """Maximum over windows; padding never wins."""
    raise NotImplementedError


@constructor("AvgPool")
def avg_pool(x: Tensor, kernel: Dims, stride: Dims, padding: Dims) -> Tensor:
    """Mean over windows of a rank-4 operand; padding counts as zeros."""
    raise NotImplementedError


@constructor("Cat")
def cat(x: Tensor, y: Tensor, dim: Integer | int) -> Tensor:
    """x then y along dim; longer lists are nested to the left."""
    raise NotImplementedError


# -- names for common functions ----------------------------------------------------------------------------------------


def identity() -> UnaryFn:
    return fn("identity", 0.0, 0.0)


def relu() -> UnaryFn:
    """max(x, 0): the clamp without an upper bound."""
    return clamp(0.0, math.inf)


def clamp(low: Number | float, high: Number | float) -> UnaryFn:
    """min(max(x, low), high); also hardtanh and relu6."""
    return fn("clamp", low, high)


def named(name: str) -> UnaryFn:
    """A function without parameters: gelu, gelu-tanh, silu, hardswish, sigmoid, tanh, exp, erf, neg, ..."""
    return fn(name, 0.0, 0.0)


def vec(*items: Integer | int) -> Dims:
    return Dims("vec-of", items) if items else Dims("vec-empty", ())
