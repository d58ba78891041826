"""Estimated time of an e-node in µs on one core: max(work / peak, bytes / bandwidth) + overhead per call.

The defaults were read off one Xeon core with AVX512-VNNI and AMX, torch 2.13, oneDNN 3.12. Only their ratios decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qegraph.snapshot import Snapshot

SYMBOLIC_SIZE = 8
"""What an unknown dim counts as."""

ITEM_BYTES = {"float32": 4, "int32": 4, "float64": 8, "int64": 8, "bfloat16": 2, "float16": 2, "uint8": 1, "int8": 1,
              "float8_e4m3fn": 1}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Rates of one core: int8 and float32 multiply-adds per µs, bytes per µs; overheads of one call in µs.

    quantize_read  share of its operand's bytes that a quantize pays for: compiled, it is computed where its operand is
                   made, so it is never worth a second contraction. A dequantize before a contraction is not.
    conv_zero_point  more for an activation whose zero point isn't 0.
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
    float8_macs: float = 45_000.0
    float8_decoded: float = 220.0
    bandwidth: float = 10_000.0
    conv_call: float = 28.0
    conv_zero_point: float = 2.0
    linear_call: float = 24.0
    linear_row: float = 0.006
    aten_call: float = 4.0
    quantize_call: float = 4.0
    quantize_read: float = 0.25
    dequantize_call: float = 20.0
    dequantize_weight_call: float = 40.0
    flip_call: float = 8.0
    norm_call: float = 12.0
    float_gemm_call: float = 6.0
    post_op: float = 0.5
    group_channels: int = 32
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


MACHINE = Machine()


def elements(snapshot: Snapshot, eclass: int) -> int:
    """Number of elements of an e-class; 0 for what has no shape."""
    dims = snapshot.shape.get(eclass)
    return math.prod(d if d >= 0 else SYMBOLIC_SIZE for d in dims) if dims is not None else 0


def size(snapshot: Snapshot, eclass: int) -> int:
    """Bytes of an e-class."""
    return elements(snapshot, eclass) * ITEM_BYTES.get(snapshot.dtype.get(eclass, ""), 4)


def traffic(snapshot: Snapshot, *eclasses: int) -> float:
    """µs to move the given e-classes through memory once."""
    return sum(size(snapshot, eclass) for eclass in eclasses) / MACHINE.bandwidth
