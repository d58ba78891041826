"""What an estimate of an e-node's time in µs is made of: max(work / peak, bytes / bandwidth) + overhead per call.

The defaults were read off one Xeon core with AVX512-VNNI and AMX, torch 2.13, oneDNN 3.12. Only their ratios decide.
`qegraph calibrate` measures this machine's. Without AVX-512, `scaled` and `normed` were read off an EPYC core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from qegraph.snapshot import Snapshot

SYMBOLIC_SIZE = 8
"""What an unknown dim counts as."""

ITEM_BYTES = {"float32": 4, "int32": 4, "float64": 8, "int64": 8, "bfloat16": 2, "float16": 2, "uint8": 1, "int8": 1,
              "float8_e4m3fn": 1}  # fmt: skip


WIDE = "AVX512" in torch.backends.cpu.get_cpu_capability()
"""Whether ATen's batch norm for codes is made of AVX-512: without, it takes one after another."""


@dataclass(frozen=True)
class Rates:
    """What a machine does in a µs at the thread count in force, and what one call costs besides, in µs.

    *_macs           multiply-adds; `int8_macs` are those of convolutions.
    float8_decoded   float8 elements made floats: kernels do that with the whole weight on every call.
    *_outputs        sums that a kernel scales, adds a bias to, rounds and stores.
    bandwidth        bytes of values just computed. kernel_bandwidth  bytes a contraction reads and writes: its weights
                     are seldom in a cache. cast_traffic  share of its bytes that a conversion pays for.
    quantized        elements quantized; `dequantized` likewise.
    zero_point       more for a convolution's activation whose zero point isn't 0, `padded_zero_point` if it is padded;
                     `zero_point_weights` are the weights it sums up meanwhile.
    full_channels    input channels from which a convolution runs at the full rate, `group_channels` if it has groups;
                     `float_group_channels` those of one of floats, if it has groups.
    half_weight      weight elements that the half-float linear widens on every call.
    pooled           elements of an average pool run as a convolution, `scaled` of a norm run as one.
    normed           elements of the batch norm for codes, beside the bytes it moves.
    pool_in_passing  more for one of a value that is multiplied as floats too: compiled, its mean is made in passing.
    """

    int8_macs: float = 1_300_000.0
    linear_macs: float = 650_000.0
    float_macs: float = 50_000.0
    bfloat16_macs: float = 50_000.0
    float8_macs: float = 45_000.0
    float8_decoded: float = 220.0
    bandwidth: float = 32_000.0
    kernel_bandwidth: float = 9_500.0
    conv_call: float = 62.0
    conv_outputs: float = 13_000.0
    zero_point: float = 10.0
    padded_zero_point: float = 15.0
    zero_point_weights: float = 30_000.0
    full_channels: float = 10.0
    group_channels: float = 48.0
    float_group_channels: float = 5.0
    linear_call: float = 65.0
    linear_outputs: float = 7_400.0
    aten_call: float = 6.0
    pad_call: float = 19.0
    quantize_call: float = 20.0
    quantized: float = 1_100.0
    dequantize_call: float = 10.0
    dequantized: float = 1_750.0
    dequantize_weight_call: float = 30.0
    flip_call: float = 12.0
    norm_call: float = 28.0
    float_gemm_call: float = 20.0
    float_conv_call: float = 65.0
    post_op: float = 0.5
    pooled: float = 1_800.0
    scaled: float = 1_600.0 if WIDE else 1_500.0
    normed: float = 1_800.0 if WIDE else 240.0
    pool_in_passing: float = 0.0
    view: float = 6.0
    cast_traffic: float = 0.35
    weight_only_bfloat16_macs: float = 30_000.0
    weight_only_float32_macs: float = 1_700.0
    weight_only_float16_macs: float = 750.0
    weight_only4_bfloat16_macs: float = 46_000.0
    weight_only4_float32_macs: float = 670.0
    weight_only4_float16_macs: float = 410.0
    half_linear_call: float = 75.0
    half_linear_macs: float = 60_000.0
    half_weight: float = 1_500.0

    def kernel_traffic(self, snapshot: Snapshot, *eclasses: int) -> float:
        """µs for a contraction to read or write the given e-classes."""
        return _bytes(snapshot, eclasses) / self.kernel_bandwidth

    def traffic(self, snapshot: Snapshot, *eclasses: int) -> float:
        """µs to move the given e-classes through memory once."""
        return _bytes(snapshot, eclasses) / self.bandwidth

    def on(self, threads: int) -> Rates:
        """These rates of one thread as those of several: arithmetic and caches grow with them, calls don't."""
        return replace(self, **{name: getattr(self, name) * threads for name in PER_THREAD})


DEFAULTS = Rates()
"""Of one core, run eagerly: fitted to the times of the kernels of the zoo, each in its place in a whole run."""

COMPILED = Rates(
    int8_macs=500_000.0, linear_macs=500_000.0, bandwidth=10_000.0, kernel_bandwidth=10_000.0,
    conv_call=28.0, conv_outputs=math.inf, zero_point=2.0, padded_zero_point=0.0, zero_point_weights=math.inf,
    full_channels=1.0, group_channels=32.0, linear_call=24.0, linear_outputs=40_000.0,
    aten_call=4.0, pad_call=4.0, norm_call=12.0, flip_call=8.0, float_gemm_call=6.0, float_conv_call=6.0, view=1.0,
    half_linear_call=40.0, pool_in_passing=60.0,
    quantize_call=4.0, quantized=6_667.0, dequantize_call=20.0, dequantized=2_000.0, dequantize_weight_call=40.0,
)  # fmt: skip
"""For code that is compiled: what stands between kernels is computed where its operand is made, so it costs little; but
a dequantize before a contraction is not. Only the ratios mean something: they were set by what compiled models gain."""

GENERIC_LINEARS = {"linear_macs": 400_000.0, "linear_call": 35.0}
"""Of `COMPILED`, where torch's operators run oneDNN's generic matmul, as without VNNI: what can be a convolution, stays
one. 1.1 to 1.3 times as long on 100 to 200 rows, 3 to 8 times on one (an EPYC core)."""

NATIVE_CALLS = {"eager": (22 / 62, 25 / 65), "compiled": (4 / 28, 4 / 24)}
"""What our own operators (`qegraph.native`) take of `conv_call` and of `linear_call`, by target."""

PER_THREAD = (
    "int8_macs", "linear_macs", "float_macs", "bfloat16_macs", "float8_macs", "float8_decoded", "bandwidth",
    "kernel_bandwidth", "conv_outputs", "linear_outputs", "zero_point_weights", "quantized", "dequantized", "pooled",
    "scaled", "normed",
    "half_linear_macs", "half_weight", "weight_only_bfloat16_macs", "weight_only_float32_macs",
    "weight_only_float16_macs", "weight_only4_bfloat16_macs", "weight_only4_float32_macs", "weight_only4_float16_macs",
)  # fmt: skip
"""Fields of `Rates` that grow with the number of threads."""


def elements(snapshot: Snapshot, eclass: int) -> int:
    """Number of elements of an e-class; 0 for what has no shape."""
    dims = snapshot.shape.get(eclass)
    return math.prod(d if d >= 0 else SYMBOLIC_SIZE for d in dims) if dims is not None else 0


def size(snapshot: Snapshot, eclass: int) -> int:
    """Bytes of an e-class."""
    return elements(snapshot, eclass) * ITEM_BYTES.get(snapshot.dtype.get(eclass, ""), 4)


def _bytes(snapshot: Snapshot, eclasses: Iterable[int]) -> int:
    return sum(size(snapshot, eclass) for eclass in eclasses)


def rounded(cost: float) -> float:
    """To a nanosecond: a cost means no more, and sums are then exact, so that an optimum has no gap."""
    return round(cost, 3)
