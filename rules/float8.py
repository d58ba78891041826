"""What the float8 kernels store themselves. That they read float8 is data of the rules in `int8.py`."""

from qegraph.lang import (
    Kind,
    QParams,
    Tensor,
    UnaryFn,
    absent,
    float8,
    kernel_accepts,
    kernel_stores,
    nothing,
    positive_scale,
    qgemm,
    quantize,
    real,
    rewrite,
    rule,
)
from qegraph.lang.rule import Rewrite
from qegraph.lang.terms import Number

FLOAT = real("float32")


@rule(exact=False)
def requantize_float8(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, f: UnaryFn, s: Number
) -> Rewrite:
    """quantize(qgemm(...), float8) = qgemm(... -> float8) : the kernel rounds to float16 first, 0.4 % are 1 LSB off"""
    return (
        rewrite(quantize(qgemm(k, x, qx, w, qw, b, nothing(), absent(), f, FLOAT), float8(s)))
        .to(qgemm(k, x, qx, w, qw, b, nothing(), absent(), f, float8(s)))
        .when(positive_scale(float8(s)), kernel_stores(qx, float8(s)), kernel_accepts(k, absent(), FLOAT, f))
    )
