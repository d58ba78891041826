"""What the int8 kernels of the installed oneDNN accept, in one table, and what is exact on the running CPU.

Measured with oneDNN 3.12 by calling every combination; `tests/test_kernels.py` calls them again. Numerics, for all of
them: acc = sum((x - x_zp) * w) exactly in int32; y = acc * x_scale * w_scale[n] + bias + other in float32; then the
post-op; for a half output rounded to nearest even; for an integer output sat(rne(y / out_scale + out_zp)), the zero
point added before rounding. The overloads that take scale and zero point as tensors give the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from qegraph._torch import has_cpu_kernel, register_fake

UNARY_POST_OPS = {
    "linear": ("relu", "clamp", "gelu", "gelu-tanh", "silu", "hardswish", "leaky_relu", "tanh"),
    "conv1d": ("relu",),
    "conv2d": ("relu", "clamp", "silu", "hardswish"),
    "conv3d": (),
}
RESIDUAL_POST_OPS = ("relu",)

FLOATS = ("float32", "bfloat16", "float16")
FLOAT_OUTPUTS = {"linear": FLOATS, **dict.fromkeys(("conv1d", "conv2d", "conv3d"), FLOATS[:2])}
"""kind -> the float dtypes it stores. Whether a convolution stores float16 depends on its sizes and on the CPU."""

ACTIVATIONS = (("linear", "uint8"), ("linear", "int8"), ("conv1d", "uint8"), ("conv2d", "uint8"), ("conv3d", "uint8"))
"""(kind, activation dtype) the kernels read."""

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

PARAMETERS = {"clamp": 2, "leaky_relu": 1}
"""How many of a function's two parameters the kernel takes."""


def accepted() -> Iterator[tuple[str, str, str, str]]:
    """All (kind, residual storage, output storage, post-op) with a kernel; storage is a dtype, codes or absent."""
    for kind, post_ops in UNARY_POST_OPS.items():
        for out in (*FLOAT_OUTPUTS[kind], "codes"):
            for f in ("identity", *post_ops):
                yield kind, "absent", out, f
    for kind, other, out in RESIDUALS:
        for f in ("identity", *RESIDUAL_POST_OPS):
            yield kind, other, out, f


def accepting() -> Iterator[tuple[str, str, str, str]]:
    """`accepted()`, and each row with a float32 output, the step before it is stored as anything else."""
    for kind, other, out, f in accepted():
        yield kind, other, out, f
        if out in FLOATS and out != "float32":
            yield kind, other, "float32", f


OPTIONAL = {"qbatch_norm2d": "onednn::qbatch_norm2d"}
"""Kernels that not every torch has for every CPU, by the name guards use."""


def optional_kernels() -> Iterator[str]:
    """The names of `OPTIONAL` that are there: the operator is registered, with a kernel for the CPU."""
    for name, operator in OPTIONAL.items():
        if has_cpu_kernel(operator):
            yield name


@functools.cache
def adds_in_32_bits() -> bool:
    """The CPU, within what oneDNN may use (ONEDNN_MAX_CPU_ISA), has VNNI or AMX int8: full-range uint8 is exact.

    Decided by running one product that saturates a 16-bit pair sum: 255 * 127 + 255 * 127 > 32767.
    """
    weight = torch.full((16, 64), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    x = torch.full((1, 64), 255, dtype=torch.uint8)
    y = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 0, packed, torch.ones(16), None, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return bool((y == 255 * 127 * 64).all())


def _fake_batch_norm(x: torch.Tensor, *arguments: object) -> torch.Tensor:
    dtype = arguments[-1]
    assert isinstance(dtype, torch.dtype)
    return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)


register_fake("onednn::qbatch_norm2d", _fake_batch_norm)
