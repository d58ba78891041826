"""`qegraph calibrate`: the rates that estimates are made from, measured on this machine in seconds.

Each rate is read off one call that little else plays a part in: arithmetic off a large product, bandwidth off a copy
that leaves the caches, the price of a call off the smallest there is. What isn't measured keeps its default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch.nn import functional

from qegraph.cost import DEFAULTS, Rates
from qegraph.packing import PackedConv, PackedLinear
from qegraph.torch_names import aten, onednn, quantized_decomposed

Call = Callable[[], object]
Progress = Callable[[str], None]

SECONDS = 0.25
"""Each measurement takes about this long."""
_LARGE = 1024
_COPY = 1 << 25
"""Bytes: larger than a core's share of any cache."""


def calibrate(progress: Progress = lambda _: None) -> Rates:
    """This machine's rates at the thread count in force. Takes about ten seconds."""
    progress("arithmetic and memory")
    rates = replace(
        DEFAULTS.on(torch.get_num_threads()),
        int8_macs=_LARGE**3 / _microseconds(_int8_linear(_LARGE, _LARGE)),
        float_macs=_LARGE**3 / _microseconds(_float_linear(torch.float32)),
        bfloat16_macs=_LARGE**3 / _microseconds(_float_linear(torch.bfloat16)),
        bandwidth=2 * _COPY / _microseconds(_copy()),
    )
    progress("what a call costs")
    return replace(rates, **{name: _microseconds(call) for name, call in _calls().items()})


def _calls() -> dict[str, Call]:
    """Field of `Rates` -> the smallest call that pays it."""
    x = torch.randn(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    row, weight = torch.randn(1, 16), torch.randn(16, 16)
    codes = torch.randint(0, 255, (1, 16), dtype=torch.uint8)
    stored, scales = torch.randint(-128, 127, (16, 16), dtype=torch.int8), torch.ones(16)
    zeros = torch.zeros(16, dtype=torch.int64)
    quantize = quantized_decomposed.quantize_per_tensor.default
    dequantize = quantized_decomposed.dequantize_per_tensor.default
    dequantize_rows = quantized_decomposed.dequantize_per_channel.default
    return {
        "conv_call": _int8_conv(x),
        "linear_call": _int8_linear(1, 16),
        "aten_call": lambda: aten.add.Tensor(row, row),
        "quantize_call": lambda: quantize(row, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_call": lambda: dequantize(codes, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_weight_call": lambda: dequantize_rows(stored, scales, zeros, 0, -128, 127, torch.int8),
        "flip_call": lambda: aten.view.dtype(aten.bitwise_xor.Scalar(codes, 0x80), torch.int8),
        "float_gemm_call": lambda: functional.linear(row, weight),
        "view": lambda: aten.view.default(row, [16]),
    }


def _int8_linear(rows: int, width: int) -> Call:
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    packed = PackedLinear(torch.randint(-128, 127, (width, width), dtype=torch.int8), [rows, width])()
    scales = torch.full((width,), 0.01)
    tail = (0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qlinear_pointwise.default(x, 0.1, 0, packed, scales, None, None, *tail)


def _int8_conv(like: torch.Tensor) -> Call:
    channels = like.shape[1]
    x = torch.full_like(like, 3, dtype=torch.uint8)
    weight, scales = torch.ones(channels, channels, 1, 1, dtype=torch.int8), torch.full((channels,), 0.01)
    windows = ([1, 1], [0, 0], [1, 1])
    packed = PackedConv(weight, scales, 0.1, 0, windows, 1, list(x.shape))()
    tail = (*windows, 1, 0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qconv_pointwise.default(x, 0.1, 0, packed, scales, None, None, *tail)


def _float_linear(dtype: torch.dtype) -> Call:
    x, weight = torch.randn(_LARGE, _LARGE).to(dtype), torch.randn(_LARGE, _LARGE).to(dtype)
    return lambda: functional.linear(x, weight)


def _copy() -> Call:
    source, target = torch.zeros(_COPY, dtype=torch.uint8), torch.zeros(_COPY, dtype=torch.uint8)
    return lambda: target.copy_(source)


def _microseconds(call: Call) -> float:
    """Median time of one call, over samples of at least a millisecond each."""
    with torch.no_grad():
        call()
        begin = time.perf_counter()
        call()
        batch = max(1, int(1e-3 / max(1e-7, time.perf_counter() - begin)))
        samples: list[float] = []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(samples) < 3:
            begin = time.perf_counter()
            for _ in range(batch):
                call()
            samples.append((time.perf_counter() - begin) / batch * 1e6)
    return median(samples)
