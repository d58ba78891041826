"""What the int8 kernels of the installed oneDNN accept, in one table, and what is exact on the running CPU.

Measured with oneDNN 3.12 by calling every combination; `tests/test_kernels.py` calls them again. Numerics, for all of
them: acc = sum((x - x_zp) * w) exactly in int32; y = acc * x_scale * w_scale[n] + bias + other in float32; then the
post-op; for an integer output sat(rne(y / out_scale + out_zp)), the zero point added before rounding.
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

ACTIVATIONS = (("linear", "uint8"), ("linear", "int8"), ("conv1d", "uint8"), ("conv2d", "uint8"), ("conv3d", "uint8"))
"""(kind, activation dtype) the kernels read."""

RESIDUALS = (("linear", "real", "real"), ("linear", "real", "codes"), ("linear", "codes", "codes"),
             ("conv2d", "real", "real"), ("conv2d", "codes", "codes"))  # fmt: skip
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
    """All (kind, residual storage, output storage, post-op) with a kernel; storage is real, codes or absent."""
    for kind, post_ops in UNARY_POST_OPS.items():
        for out in ("real", "codes"):
            for f in ("identity", *post_ops):
                yield kind, "absent", out, f
    for kind, other, out in RESIDUALS:
        for f in ("identity", *RESIDUAL_POST_OPS):
            yield kind, other, out, f


WEIGHT_ONLY_DEPTH = 16
"""What K must be a multiple of in the weight-only bfloat16 kernel: it reads 16 codes at a time, past the end too."""

MAX_REDUCTION = (2**31 - 1) // (255 * 128)
"""Longest sum of products that can't overflow the int32 accumulator."""

OPTIONAL = {
    "qbatch_norm2d": "onednn::qbatch_norm2d",
    "weight_only": "aten::_weight_int8pack_mm",
    "linear_fp16": "onednn::linear_prepack_fp16",
}
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
