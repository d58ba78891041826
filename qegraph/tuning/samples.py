"""The calls that `qegraph calibrate` times: the smallest that pay what a call costs, and some of little but work.

Kernels are called as in a model: with a bias, which every layer has once its batch norm is folded. It can take a linear
10 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from qegraph import borders
from qegraph.packing import PackedConv, PackedLinear
from qegraph.torch_names import aten, onednn, quantized_decomposed

Call = Callable[[], object]

_MANY = 1 << 18
"""Elements of a large activation."""
_ZERO_POINT = 3


@dataclass(frozen=True)
class Work:
    """A call, the elements of its result, its multiply-adds and its weights."""

    call: Call
    outputs: int
    macs: int = 0
    weights: int = 0


def calls() -> Mapping[str, Call]:
    """Field of `Rates` -> the smallest call that pays it; and convolutions that are padded or have a zero point."""
    row, weight, bias = torch.randn(1, 16), torch.randn(16, 16), torch.randn(16)
    codes = torch.randint(0, 255, (1, 16), dtype=torch.uint8)
    stored, scales = torch.randint(-128, 127, (16, 16), dtype=torch.int8), torch.ones(16)
    zeros = torch.zeros(16, dtype=torch.int64)
    image = _image(16, 4)
    dequantize_rows = quantized_decomposed.dequantize_per_channel.default
    return {
        "conv_call": _int8_conv(16, 16, 1, 4).call,
        "zero point": _int8_conv(16, 16, 1, 4, zero_point=_ZERO_POINT).call,
        "padded": _int8_conv(16, 16, 3, 4).call,
        "padded zero point": _int8_conv(16, 16, 3, 4, zero_point=_ZERO_POINT).call,
        "linear_call": _int8_linear(16, 16, 16).call,
        "aten_call": lambda: aten.add.Tensor(row, row),
        "pad_call": lambda: aten.constant_pad_nd.default(image, [1, 1, 1, 1], 3),
        "quantize_call": lambda: borders.quantize_per_tensor(row, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_call": lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_weight_call": lambda: dequantize_rows(stored, scales, zeros, 0, -128, 127, torch.int8),
        "flip_call": lambda: aten.view.dtype(aten.bitwise_xor.Scalar(codes, 0x80), torch.int8),
        "norm_call": _norm(image).call,
        "float_gemm_call": lambda: functional.linear(row, weight, bias),
        "view": lambda: aten.permute.default(image, [0, 2, 3, 1]),
    }


def work() -> Mapping[str, Work]:
    """By name; what each says is in `calibration`."""
    values, codes = torch.randn(_MANY), torch.randint(0, 255, (_MANY,), dtype=torch.uint8)
    return {
        "linear": _int8_linear(256, 1024, 1024),
        "row": _int8_linear(1, 4096, 2048),
        "rows": _int8_linear(2048, 64, 512),
        "scaled": _int8_conv(256, 256, 1, 28, 256),
        "normed": _norm(_image(256, 28)),
        "conv": _int8_conv(256, 256, 3, 14),
        "few channels": _int8_conv(3, 64, 7, 56),
        "depthwise": _int8_conv(256, 256, 3, 28, 256),
        "pointwise": _int8_conv(64, 256, 1, 56),
        "weights": _int8_conv(1024, 1024, 1, 7),
        "weight sums": _int8_conv(1024, 1024, 1, 7, zero_point=_ZERO_POINT),
        "float": _float_linear(torch.float32),
        "bfloat16": _float_linear(torch.bfloat16),
        "float depthwise": _float_depthwise(256, 28),
        "add": Work(lambda: aten.add.Tensor(values, values), _MANY),
        "quantize": Work(lambda: borders.quantize_per_tensor(values, 0.1, 3, 0, 255, torch.uint8), _MANY),
        "dequantize": Work(lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8), _MANY),
    }


def _int8_linear(rows: int, width: int, outputs: int) -> Work:
    """Of uint8 rows with a zero point, which costs a linear little, and int8 weights of a scale per output."""
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    packed = PackedLinear(torch.randint(-128, 127, (outputs, width), dtype=torch.int8), [rows, width])()
    scales, bias = torch.full((outputs,), 0.01), torch.randn(outputs)
    tail = (0.1, 0, torch.uint8, "none", [], "")
    return Work(
        lambda: onednn.qlinear_pointwise.default(x, 0.1, _ZERO_POINT, packed, scales, None, bias, *tail),
        rows * outputs, rows * outputs * width, outputs * width,
    )  # fmt: skip


def _int8_conv(channels: int, outputs: int, kernel: int, side: int, groups: int = 1, zero_point: int = 0) -> Work:
    """Of a uint8 image, channels last, padded so that it keeps its size."""
    x = _image(channels, side)
    weight = torch.randint(-128, 127, (outputs, channels // groups, kernel, kernel), dtype=torch.int8)
    scales, bias, windows = torch.full((outputs,), 0.01), torch.randn(outputs), ([1, 1], [kernel // 2] * 2, [1, 1])
    packed = PackedConv(weight, scales.numel(), 0.1, zero_point, windows, groups, list(x.shape))()
    tail = (*windows, groups, 0.1, 0, torch.uint8, "none", [], "")
    return Work(
        lambda: onednn.qconv_pointwise.default(x, 0.1, zero_point, packed, scales, None, bias, *tail),
        side * side * outputs, side * side * weight.numel(), weight.numel(),
    )  # fmt: skip


def _image(channels: int, side: int) -> torch.Tensor:
    image = torch.randint(0, 255, (1, channels, side, side), dtype=torch.uint8)
    return image.contiguous(memory_format=torch.channels_last)


def _norm(image: torch.Tensor) -> Work:
    statistics = [torch.ones(image.shape[1])] * 4
    return Work(lambda: onednn.qbatch_norm2d(image, 0.1, 3, *statistics, 1e-5, 0.1, 0, torch.uint8), image.numel())


def _float_linear(dtype: torch.dtype) -> Work:
    x, weight = torch.randn(512, 512).to(dtype), torch.randn(512, 512).to(dtype)
    return Work(lambda: functional.linear(x, weight), x.numel(), x.numel() * 512, weight.numel())


def _float_depthwise(channels: int, side: int) -> Work:
    x, weight = _image(channels, side).to(torch.float32), torch.randn(channels, 1, 3, 3)
    bias = torch.randn(channels)
    return Work(
        lambda: functional.conv2d(x, weight, bias, padding=1, groups=channels),
        x.numel(), x.numel() * 9, weight.numel(),
    )  # fmt: skip
