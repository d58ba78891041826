"""`qegraph calibrate`: the rates that estimates are made from, measured on this machine in seconds.

Each rate is read off a call that little else plays a part in. In a model a call finds the caches full of other things,
so calls take turns here, with a sweep through memory before each. What isn't measured keeps its default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

import torch
from torch.nn import functional

from qegraph import borders
from qegraph.cost import DEFAULTS, Rates
from qegraph.packing import PackedConv, PackedLinear
from qegraph.progress import SILENT, Tell
from qegraph.torch_names import aten, onednn, quantized_decomposed

Call = Callable[[], object]

ROUNDS = 25
STAGES = 2 * (ROUNDS + 1)
"""Steps that progress is told in: a warm-up and the rounds, of calls and of work."""
_SWEEP = 1 << 19
"""Bytes. With these, calls take what they take in the models of the zoo."""
_MANY = 1 << 18
"""Elements of a large activation."""


def calibrate(tell: Tell = SILENT) -> Rates:
    """This machine's rates at the thread count in force. Takes a few seconds, in `STAGES` steps."""
    with torch.no_grad():
        tell("what a call costs")
        calls = _in_turns(_calls(), tell, 0)
        tell("arithmetic and memory")
        work = _in_turns(_work(), tell, ROUNDS + 1)
    defaults = DEFAULTS.on(torch.get_num_threads())
    linear, conv = calls["linear_call"], calls["conv_call"]
    linear_macs = 256 * 1024 * 1024 / _above(work["linear"], linear)
    int8_macs = 14 * 14 * 256 * 256 * 9 / _above(work["conv"], conv)
    rates = {
        "linear_macs": linear_macs,
        "int8_macs": int8_macs,
        "kernel_bandwidth": 4096 * 2048 / _above(work["row"], linear),
        "linear_outputs": 2048 * 512 / _above(work["rows"], linear + 2048 * 512 * 64 / linear_macs),
        "conv_outputs": 56 * 56 * 256 / _above(work["pointwise"], conv + 56 * 56 * 256 * 64 / int8_macs),
        "float_macs": 512**3 / work["float"],
        "bfloat16_macs": 512**3 / work["bfloat16"],
        "bandwidth": 3 * 4 * _MANY / _above(work["add"], calls["aten_call"]),
        "quantized": _MANY / _above(work["quantize"], calls["quantize_call"]),
        "dequantized": _MANY / _above(work["dequantize"], calls["dequantize_call"]),
        "scaled": 256 * 28 * 28 / _above(work["scaled"], conv),
        "normed": 256 * 28 * 28 / _above(work["normed"], defaults.norm_call),
    }
    return replace(defaults, **calls, **rates)


def _above(whole: float, call: float) -> float:
    """What is left of a time without the call; a tenth at least, should noise eat the rest."""
    return max(whole - call, 0.1 * whole)


def _calls() -> Mapping[str, Call]:
    """Field of `Rates` -> the smallest call that pays it."""
    row, weight = torch.randn(1, 16), torch.randn(16, 16)
    codes = torch.randint(0, 255, (1, 16), dtype=torch.uint8)
    stored, scales = torch.randint(-128, 127, (16, 16), dtype=torch.int8), torch.ones(16)
    zeros = torch.zeros(16, dtype=torch.int64)
    image = torch.zeros(1, 16, 4, 4, dtype=torch.uint8)
    dequantize_rows = quantized_decomposed.dequantize_per_channel.default
    return {
        "conv_call": _int8_conv(16, 16, 1, 4),
        "linear_call": _int8_linear(1, 16, 16),
        "aten_call": lambda: aten.add.Tensor(row, row),
        "pad_call": lambda: aten.constant_pad_nd.default(image, [1, 1, 1, 1], 3),
        "quantize_call": lambda: borders.quantize_per_tensor(row, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_call": lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8),
        "dequantize_weight_call": lambda: dequantize_rows(stored, scales, zeros, 0, -128, 127, torch.int8),
        "flip_call": lambda: aten.view.dtype(aten.bitwise_xor.Scalar(codes, 0x80), torch.int8),
        "float_gemm_call": lambda: functional.linear(row, weight),
        "view": lambda: aten.view.default(row, [16]),
    }


def _work() -> Mapping[str, Call]:
    values, codes = torch.randn(_MANY), torch.randint(0, 255, (_MANY,), dtype=torch.uint8)
    image = codes[: 256 * 28 * 28].view(1, 28, 28, 256).permute(0, 3, 1, 2)
    scales = torch.ones(256)
    return {
        "linear": _int8_linear(256, 1024, 1024),
        "row": _int8_linear(1, 4096, 2048),
        "rows": _int8_linear(2048, 64, 512),
        "scaled": _int8_conv(256, 256, 1, 28, 256),
        "normed": lambda: onednn.qbatch_norm2d(image, 0.1, 3, *[scales] * 4, 1e-5, 0.1, 0, torch.uint8),
        "conv": _int8_conv(256, 256, 3, 14),
        "pointwise": _int8_conv(64, 256, 1, 56),
        "float": _float_linear(torch.float32),
        "bfloat16": _float_linear(torch.bfloat16),
        "add": lambda: aten.add.Tensor(values, values),
        "quantize": lambda: borders.quantize_per_tensor(values, 0.1, 3, 0, 255, torch.uint8),
        "dequantize": lambda: borders.dequantize_per_tensor(codes, 0.1, 3, 0, 255, torch.uint8),
    }


def _int8_linear(rows: int, width: int, outputs: int) -> Call:
    x = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    packed = PackedLinear(torch.randint(-128, 127, (outputs, width), dtype=torch.int8), [rows, width])()
    scales = torch.full((outputs,), 0.01)
    tail = (0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qlinear_pointwise.default(x, 0.1, 0, packed, scales, None, None, *tail)


def _int8_conv(channels: int, outputs: int, kernel: int, side: int, groups: int = 1) -> Call:
    x = torch.randint(0, 255, (1, channels, side, side), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randint(-128, 127, (outputs, channels // groups, kernel, kernel), dtype=torch.int8)
    scales, windows = torch.full((outputs,), 0.01), ([1, 1], [kernel // 2] * 2, [1, 1])
    packed = PackedConv(weight, scales.numel(), 0.1, 0, windows, groups, list(x.shape))()
    tail = (*windows, groups, 0.1, 0, torch.uint8, "none", [], "")
    return lambda: onednn.qconv_pointwise.default(x, 0.1, 0, packed, scales, None, None, *tail)


def _float_linear(dtype: torch.dtype) -> Call:
    x, weight = torch.randn(512, 512).to(dtype), torch.randn(512, 512).to(dtype)
    return lambda: functional.linear(x, weight)


def _in_turns(calls: Mapping[str, Call], tell: Tell, done: int) -> dict[str, float]:
    """Median µs of each, one after another, each with cold caches. `done`: rounds before these."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    swept = torch.zeros(_SWEEP, dtype=torch.uint8)
    for turn in range(ROUNDS + 1):
        tell.done(done + turn)
        for name, call in calls.items():
            swept.add_(1)
            begin = time.perf_counter()
            call()
            samples[name].append((time.perf_counter() - begin) * 1e6)
    return {name: median(each[1:]) for name, each in samples.items()}
