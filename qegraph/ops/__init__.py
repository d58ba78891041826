"""The operators we model, one family per file: how each is read, what its word costs, and how it is emitted.

Adding an operator or a kernel is one entry here and one test row. What has no reader is opaque and passes unchanged.
"""

from qegraph.ops import elementwise, gemm, leaves, moves, norm, pool, quant, scales, weights
from qegraph.ops.table import EVALUATIONS, READERS, WORDS, Emission, Reading

__all__ = [
    "EVALUATIONS", "READERS", "WORDS", "Emission", "Reading",
    "elementwise", "gemm", "leaves", "moves", "norm", "pool", "quant", "scales", "weights",
]  # fmt: skip
