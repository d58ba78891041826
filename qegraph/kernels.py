"""What the int8 kernels of the installed oneDNN accept, in one table, and what is exact on the running CPU.

Measured with oneDNN 3.12 by calling every combination; `tests/test_kernels.py` calls them again. Numerics, for all of
them: acc = sum((x - x_zp) * w) exactly in int32; y = acc * x_scale * w_scale[n] + bias + other in float32; then the
post-op; for a half output rounded to nearest even; for an integer output sat(rne(y / out_scale + out_zp)), the zero
point added before rounding. The overloads that take scale and zero point as tensors give the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch

from qegraph._torch import has_cpu_kernel, register_fake
from qegraph.snapshot import Data

Kernels = Literal["onednn", "native"]
"""Whose operators the int8 kernels are called by: torch's, or our own (`qegraph.native`)."""

UNARY_POST_OPS = {
    "linear": ("relu", "clamp", "gelu", "gelu-tanh", "silu", "hardswish", "leaky_relu", "tanh"),
    "conv1d": ("relu",),
    "conv2d": ("relu", "clamp", "silu", "hardswish"),
    "conv3d": (),
}
RESIDUAL_POST_OPS = ("relu",)

MAX_REDUCTION = (2**31 - 1) // (255 * 128)
"""Longest sum of products that can't overflow the int32 accumulator."""
FLOATS = ("float32", "bfloat16", "float16")
FLOAT_OUTPUTS = {"linear": FLOATS, **dict.fromkeys(("conv1d", "conv2d", "conv3d"), FLOATS[:2])}
"""kind -> the float dtypes it stores. Whether a convolution stores float16 depends on its sizes and on the CPU."""

ACTIVATIONS = (("linear", "uint8"), ("linear", "int8"), ("conv1d", "uint8"), ("conv2d", "uint8"), ("conv3d", "uint8"))
"""(kind, activation dtype) the integer kernels read."""

WEIGHTS = (("uint8", "int8"), ("int8", "int8"), ("float8_e4m3fn", "float8_e4m3fn"))
"""(activation dtype, weight dtype) that go together."""

RESIDUALS = (
    *(("linear", other, out) for other in FLOATS for out in (*FLOATS, "codes")),
    ("linear", "codes", "codes"),
    *(("conv2d", each, each) for each in (*FLOAT_OUTPUTS["conv2d"], "codes")),
)
"""(kind, storage of the residual, storage of the output) the kernels add; codes have the output's dtype."""

POST_OPS = {
    "identity": ("none", "none"),
    "relu": ("relu", "none"),
    "clamp": ("hardtanh", "none"),
    "gelu": ("gelu", "none"),
    "gelu-tanh": ("gelu", "tanh"),
    "silu": ("swish", "none"),
    "hardswish": ("hardswish", "none"),
    "leaky_relu": ("leaky_relu", "none"),
    "tanh": ("tanh", "none"),
}
"""Our name of a function -> (the kernel's name, its algorithm)."""


def name_of(f: Data) -> str:
    """A function's name in these tables: relu is the clamp without an upper bound."""
    return "relu" if f.args == ("clamp", 0.0, math.inf) else f.args[0]


PARAMETERS = {"clamp": 2, "leaky_relu": 1}
"""How many of a function's two parameters the kernel takes."""


def accepted(kernels: Kernels = "onednn") -> Iterator[tuple[str, str, str, str]]:
    """All (kind, residual storage, output storage, post-op) with a kernel here; storage is a dtype, codes or absent.

    It is torch's operators that take few post-ops: oneDNN applies any to any sum, and so do our own operators.
    """
    for kind, other, out, post_ops in _stored():
        is_ours = kernels == "native" and "float16" not in (other, out)
        yield from ((kind, other, out, f) for f in (POST_OPS if is_ours else ("identity", *post_ops)))


def _stored() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(kind, residual storage, output storage, the post-ops torch's operators take)."""
    for kind, post_ops in UNARY_POST_OPS.items():
        yield from ((kind, "absent", out, post_ops) for out in (*FLOAT_OUTPUTS[kind], "codes"))
    for kind, other, out in RESIDUALS:
        if kind != "linear" or other not in FLOATS[1:] or linear_adds(other):
            yield kind, other, out, RESIDUAL_POST_OPS


@functools.cache
def linear_adds(half: str) -> bool:
    """A linear adds a residual of this half dtype here, which is run: oneDNN has none that adds bfloat16 without
    AVX-512, and none that adds float16 without AVX512-FP16.
    """
    ones = torch.ones(16, 16, dtype=torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(ones.to(torch.int8), None)
    other, tail = ones.to(getattr(torch, half)), (1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], "")
    try:
        y = torch.ops.onednn.qlinear_pointwise.binary(ones, 1.0, 0, packed, torch.ones(16), None, other, None, *tail)
    except RuntimeError:
        return False
    return bool((y == 17.0).all())


def accepting(kernels: Kernels = "onednn") -> Iterator[tuple[str, str, str, str]]:
    """`accepted`, and each row with a float32 output, the step before it is stored as anything else."""
    for kind, other, out, f in accepted(kernels):
        yield kind, other, out, f
        if out in FLOATS and out != "float32":
            yield kind, other, "float32", f


def activations() -> Iterator[tuple[str, str]]:
    """All (kind, activation dtype) with a kernel here. Float8 comes with the same post-ops and float operands."""
    yield from ACTIVATIONS
    if reads_float8():
        for kind in UNARY_POST_OPS:
            yield kind, "float8_e4m3fn"


@functools.cache
def reads_float8() -> bool:
    """Decided by running one product of ones. Accumulates in float32.

    There are float8 outputs too, but they are rounded twice, through float16: 0.4 % of the codes are 1 off.
    """
    ones = torch.ones(16, 16).to(torch.float8_e4m3fn)
    try:
        packed = torch.ops.onednn.qlinear_prepack(ones, None)
        y = torch.ops.onednn.qlinear_pointwise(
            ones, 0.5, 0, packed, torch.ones(16), None, None, 1.0, 0, torch.float32, "none", [], ""
        )
    except RuntimeError:
        return False  # an older torch
    return bool((y == 8.0).all())


WEIGHT_ONLY_DEPTH = 16
"""What K must be a multiple of in the weight-only bfloat16 kernel: it reads 16 codes at a time, past the end too."""

WEIGHT_ONLY_REDUCTION = 2**15
"""Longest sum of products in the weight-only kernel: it adds in float32, and is 1e-5 off at twice as many."""

WEIGHT_ONLY4_BLOCK = 64
"""Rows that aten's packed 4-bit weights store together with AVX-512; with less it is 32, which divides it."""

OPTIONAL = {
    "qbatch_norm2d": "onednn::qbatch_norm2d",
    "scaled_embedding_bag": "torchao::_scaled_embedding_bag",
    "da8w4_linear": "torchao::da8w4_linear_cpu",
    "qscaled_dot_product": "torchao::qscaled_dot_product",
    "weight_only": "aten::_weight_int8pack_mm",
    "linear_fp16": "onednn::linear_prepack_fp16",
}
"""Kernels that not every torch has for every CPU, by the name guards use."""

ELEMENTWISE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "qadd": torch.add,
    "qadd_relu": lambda x, y: torch.relu(x + y),
    "qmul": torch.mul,
}
"""onednn operators on two uint8 tensors of one shape, and what they compute on real values.

Those of torch 2.13 read uint8 as int8 where they use AVX-512, and round ties away from zero: used after a self-test.
"""


def optional_kernels() -> Iterator[str]:
    """The names of `OPTIONAL` that are there: the operator is registered, with a kernel for the CPU; and those of
    `ELEMENTWISE` that compute what they should on this machine.
    """
    for name, operator in OPTIONAL.items():
        if has_cpu_kernel(operator):
            yield name
    for name in ELEMENTWISE:
        if has_cpu_kernel(f"onednn::{name}.tensor") and elementwise_is_right(name):
            yield name


@functools.cache
def elementwise_is_right(name: str) -> bool:
    """All pairs of codes and lengths that are no multiple of a vector, with and without ties, within the contract."""
    kernel = getattr(torch.ops.onednn, name).tensor
    codes = torch.arange(256, dtype=torch.uint8)
    x, y = codes.repeat_interleave(256), codes.repeat(256)
    for length in (65536, 33, 15, 7, 1):
        left, right = x[-length:].contiguous(), y[-length:].contiguous()
        for a, za, b, zb, out, zero in ((0.02, 10, 0.03, 120, 0.05, 31), (0.5, 0, 0.5, 0, 1.0, 0)):
            real = ELEMENTWISE[name]((left.double() - za) * a, (right.double() - zb) * b)
            wanted = ((real / out).round() + zero).clamp(0, 255)
            off = (kernel(left, a, za, right, b, zb, out, zero, torch.uint8).double() - wanted).abs()
            if off.max() > 1 or (off > 0).sum() > max(1, length // 10_000):
                return False
    return True


@functools.cache
def adds_in_32_bits() -> bool:
    """The kernels, within what oneDNN may use of the CPU, sum products of full-range uint8 and int8 exactly.

    Decided by running what saturates where pairs of products are added in 16 bits, 255 * 127 + 255 * 127 > 32767: so
    whatever limits oneDNN (ONEDNN_MAX_CPU_ISA, DNNL_MAX_CPU_ISA, a call from C++) is seen, if it does so before its
    first primitive. Measured with oneDNN 3.12, random codes and all-equal ones, with zero point and without
    (`tests/test_isa.py` measures again):

    - exact with VNNI or AMX, 256-bit AVX2_VNNI too;
    - without (SSE41, AVX2, AVX512_CORE), every kernel with uint8 up to 255 saturates: on random codes 28 to 100 % of a
      linear's results are wrong (1 row to 128, K 24 to 2048) and 59 to 94 % of a convolution's of 1, 2 or 3 dims, 1x1
      and grouped ones too; on codes of 255 all are. Only depthwise ones are exact;
    - uint8 up to 127 is exact everywhere;
    - int8 into a linear saturates with AVX2, because 128 is added to it. With AVX512_CORE it is exact, through oneDNN's
      reference code: 128x768x768 in 3.9 s, where float32 takes 1 ms.
    """
    weight = torch.full((16, 64), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    x = torch.full((1, 64), 255, dtype=torch.uint8)
    y = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 0, packed, torch.ones(16), None, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return bool((y == 255 * 127 * 64).all())


def highest_exact_code() -> int:
    """The uint8 activation up to which every kernel is exact here: what a quantizer should stop at."""
    return 255 if adds_in_32_bits() else 127


def _fake_elementwise(x: torch.Tensor, *arguments: object) -> torch.Tensor:
    dtype = arguments[-1]
    assert isinstance(dtype, torch.dtype)
    return torch.empty_like(x, dtype=dtype)


for _name in ELEMENTWISE:
    register_fake(f"onednn::{_name}.tensor", _fake_elementwise)


def _fake_batch_norm(x: torch.Tensor, *arguments: object) -> torch.Tensor:
    dtype = arguments[-1]
    assert isinstance(dtype, torch.dtype)
    return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)


register_fake("onednn::qbatch_norm2d", _fake_batch_norm)
