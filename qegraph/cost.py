"""What an estimate of an e-node's time in µs is made of: max(work / peak, bytes / bandwidth) + overhead per call.

The defaults were read off one Xeon core with AVX512-VNNI and AMX, torch 2.13, oneDNN 3.12. Only their ratios decide.
`qegraph calibrate` measures this machine's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qegraph.snapshot import Snapshot

SYMBOLIC_SIZE = 8
"""What an unknown dim counts as."""

ITEM_BYTES = {"float32": 4, "int32": 4, "float64": 8, "int64": 8, "bfloat16": 2, "float16": 2, "uint8": 1, "int8": 1,
              "float8_e4m3fn": 1}  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Rates of the threads in use: int8 and float32 multiply-adds per µs, bytes per µs; overheads of one call in µs.

    quantized, dequantized  elements per µs.
    conv_zero_point  more for an activation whose zero point isn't 0.
    zero_point_weights  weight elements per µs that a convolution sums up for such a zero point, on every call.
    linear_row     for each row of a linear, beside its arithmetic.
    float8_decoded float8 elements made floats per µs: the kernels do that with the whole weight on every call.
    cast_traffic   share of its bytes that a conversion pays for.
    half_weight    weight elements per µs that the half-float linear widens on every call.
    pooled         elements per µs of an average pool run as a convolution.
    pool_in_passing  more for one of a value that is multiplied as floats too: compiled, its mean is made in passing.
    group_channels channels per group from which a grouped convolution runs at the full rate.
    """

    int8_macs: float = 500_000.0
    float_macs: float = 50_000.0
    bfloat16_macs: float = 50_000.0
    float8_macs: float = 45_000.0
    float8_decoded: float = 220.0
    bandwidth: float = 10_000.0
    conv_call: float = 28.0
    conv_zero_point: float = 2.0
    zero_point_weights: float = 33_000.0
    linear_call: float = 24.0
    linear_row: float = 0.006
    aten_call: float = 4.0
    quantize_call: float = 4.0
    quantized: float = 6_667.0
    dequantize_call: float = 20.0
    dequantized: float = 2_000.0
    dequantize_weight_call: float = 40.0
    flip_call: float = 8.0
    norm_call: float = 12.0
    float_gemm_call: float = 6.0
    post_op: float = 0.5
    group_channels: float = 32.0
    pooled: float = 1_800.0
    pool_in_passing: float = 60.0
    view: float = 1.0
    cast_traffic: float = 0.35
    weight_only_bfloat16_macs: float = 30_000.0
    weight_only_float32_macs: float = 1_700.0
    weight_only_float16_macs: float = 750.0
    weight_only4_bfloat16_macs: float = 46_000.0
    weight_only4_float32_macs: float = 670.0
    weight_only4_float16_macs: float = 410.0
    half_linear_call: float = 40.0
    half_linear_macs: float = 60_000.0
    half_weight: float = 1_500.0

    def traffic(self, snapshot: Snapshot, *eclasses: int) -> float:
        """µs to move the given e-classes through memory once."""
        return sum(size(snapshot, eclass) for eclass in eclasses) / self.bandwidth

    def on(self, threads: int) -> Rates:
        """These rates of one thread as those of several: arithmetic and caches grow with them, calls don't."""
        return replace(self, **{name: getattr(self, name) * threads for name in PER_THREAD})


DEFAULTS = Rates()
"""Of one core, run eagerly."""

COMPILED = Rates()
"""For code that is compiled: what stands between kernels is computed where its operand is made, so it costs little; but
a dequantize before a contraction is not."""

PER_THREAD = (
    "int8_macs", "float_macs", "bfloat16_macs", "float8_macs", "float8_decoded", "bandwidth", "pooled",
    "half_linear_macs", "half_weight", "zero_point_weights", "weight_only_bfloat16_macs", "weight_only_float32_macs",
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
