"""The operators we model, one family per file: how each is read, what its word costs, and how it is emitted.

Adding an operator or a kernel is one entry here and one test row. What has no reader is opaque and passes unchanged.
"""

from qegraph.ops import codes, elementwise, float8, gemm, leaves, moves, norm, pool, quant, rare, rearrange
from qegraph.ops.table import CONSTANTS, WORDS, Emission, Reading, reader_of

__all__ = [
    "CONSTANTS",
    "WORDS",
    "Emission",
    "Reading",
    "codes",
    "elementwise",
    "float8",
    "gemm",
    "leaves",
    "moves",
    "norm",
    "pool",
    "quant",
    "rare",
    "reader_of",
    "rearrange",
]
