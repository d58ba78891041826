"""The calls that `qegraph calibrate` times: the smallest that pay what a call costs, and some of little but work.

Kernels are called as in a model: with a bias, which every layer has once its batch norm is folded. It can take a linear
10 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from qegraph import borders
from qegraph.packing import PackedConv, PackedLinear
from qegraph.torch_names import aten, onednn, quantized_decomposed

Call = Callable[[], object]

MANY = 1 << 18
"""Elements of a large activation."""
_ZERO_POINT = 3


def calls() -> Mapping[str, Call]:
    """Field of `Rates` -> the smallest call that pays it; and convolutions that are padded or have a zero point."""
    row, weight, bias = torch.randn(1, 16), torch.randn(16, 16), torch.randn(16)
    codes = torch.randint(0, 255, (1, 16), dtype=torch.uint8)
    stored, scales = torch.randint(-128, 127, (16, 16), dtype=torch.int8), torch.ones(16)
    zeros = torch.zeros(16, dtype=torch.int64)
    image = _image(16, 4)
    dequantize_rows = quantized_decomposed.dequantize_per_channel.default
    return {
        "conv_call": int8_conv(16, 16, 1, 4),
        "zero point": int8_conv(16, 16, 1, 4, zero_point=_ZERO_POINT),
        "padded": int8_conv(16, 16, 3, 4),
        "padded zero point": int8_conv(16, 16, 3, 4, zero_point=_ZERO_POINT),
        "linear_call": int8_linear(16, 16, 16),
        "aten_call": lambda: aten.add.Tensor(row, row),
        "pad_call": lambda: aten.constant_pad_nd.default(image, [1, 1, 1, 1], 3),
        "quantize_call": lambda: borders.quantize_per_tensor(row, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_call": lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_weight_call": lambda: dequantize_rows(stored, scales, zeros, 0, -128, 127, torch.int8),
        "flip_call": lambda: aten.view.dtype(aten.bitwise_xor.Scalar(codes, 0x80), torch.int8),
        "norm_call": _norm(image),
        "float_gemm_call": lambda: functional.linear(row, weight, bias),
        "view": lambda: aten.permute.default(image, [0, 2, 3, 1]),
    }


def work() -> Mapping[str, Call]:
    """By name; what each says is in `calibration`."""
    values, codes = torch.randn(MANY), torch.randint(0, 255, (MANY,), dtype=torch.uint8)
    image, window, bias = _image(256, 28).to(torch.float32), torch.randn(256, 1, 3, 3), torch.randn(256)
    return {
        "linear": int8_linear(256, 1024, 1024),
        "row": int8_linear(1, 4096, 2048),
        "rows": int8_linear(2048, 64, 512),
        "scaled": int8_conv(256, 256, 1, 28, 256),
        "normed": _norm(_image(256, 28)),
        "conv": int8_conv(256, 256, 3, 14),
        "few channels": int8_conv(3, 64, 7, 56),
        "depthwise": int8_conv(256, 256, 3, 28, 256),
        "pointwise": int8_conv(64, 256, 1, 56),
        "weights": int8_conv(1024, 1024, 1, 7),
        "weight sums": int8_conv(1024, 1024, 1, 7, zero_point=_ZERO_POINT),
        "float": _float_linear(torch.float32),
        "bfloat16": _float_linear(torch.bfloat16),
        "float depthwise": lambda: functional.conv2d(image, window, bias, padding=1, groups=256),
        "add": lambda: aten.add.Tensor(values, values),
        "quantize": lambda: borders.quantize_per_tensor(values, 0.1, 3, 0, 255, torch.uint8),
        "dequantize": lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8),
    }


def int8_linear(rows: int, width: int, outputs: int) -> Call:
    """Of uint8 rows with a zero point, which costs a linear little, and int8 weights of a scale per output."""
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    packed = PackedLinear(torch.randint(-128, 127, (outputs, width), dtype=torch.int8), [rows, width])()
    scales, bias = torch.full((outputs,), 0.01), torch.randn(outputs)
    tail = (0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qlinear_pointwise.default(x, 0.1, _ZERO_POINT, packed, scales, None, bias, *tail)


def int8_conv(channels: int, outputs: int, kernel: int, side: int, groups: int = 1, zero_point: int = 0) -> Call:
    """Of a uint8 image, channels last, padded so that it keeps its size."""
    x = _image(channels, side)
    weight = torch.randint(-128, 127, (outputs, channels // groups, kernel, kernel), dtype=torch.int8)
    scales, bias, windows = torch.full((outputs,), 0.01), torch.randn(outputs), ([1, 1], [kernel // 2] * 2, [1, 1])
    packed = PackedConv(weight, scales.numel(), 0.1, zero_point, windows, groups, list(x.shape))()
    tail = (*windows, groups, 0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qconv_pointwise.default(x, 0.1, zero_point, packed, scales, None, bias, *tail)


def _image(channels: int, side: int) -> torch.Tensor:
    image = torch.randint(0, 255, (1, channels, side, side), dtype=torch.uint8)
    return image.contiguous(memory_format=torch.channels_last)


def _norm(image: torch.Tensor) -> Call:
    statistics = [torch.ones(image.shape[1])] * 4
    return lambda: onednn.qbatch_norm2d(image, 0.1, 3, *statistics, 1e-5, 0.1, 0, torch.uint8)


def _float_linear(dtype: torch.dtype) -> Call:
    x, weight = torch.randn(512, 512).to(dtype), torch.randn(512, 512).to(dtype)
    return lambda: functional.linear(x, weight)
