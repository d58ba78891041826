"""Kernels that few machines have, or have right: each behind `kernel_present`, which looks."""

from qegraph.lang import (
    QParams,
    Tensor,
    add,
    dequantize,
    kernel_combines,
    mul,
    qbinary,
    quantize,
    relu,
    rewrite,
    rule,
    unary,
)
from qegraph.lang.rule import Rewrite


@rule
def sum_of_codes(x: Tensor, qx: QParams, y: Tensor, qy: QParams, q: QParams) -> Rewrite:
    """quantize(dq(x) + dq(y), q) = qadd(x, y -> q)"""
    total = add(dequantize(x, qx, "float32"), dequantize(y, qy, "float32"))
    return (
        rewrite(quantize(total, q)).to(qbinary("qadd", x, qx, y, qy, q)).when(*kernel_combines("qadd", x, qx, y, qy, q))
    )


@rule
def relu_of_sum_of_codes(x: Tensor, qx: QParams, y: Tensor, qy: QParams, q: QParams) -> Rewrite:
    """quantize(relu(dq(x) + dq(y)), q) = qadd_relu(x, y -> q)"""
    total = add(dequantize(x, qx, "float32"), dequantize(y, qy, "float32"))
    return (
        rewrite(quantize(unary(relu(), total), q))
        .to(qbinary("qadd_relu", x, qx, y, qy, q))
        .when(*kernel_combines("qadd_relu", x, qx, y, qy, q))
    )


@rule
def product_of_codes(x: Tensor, qx: QParams, y: Tensor, qy: QParams, q: QParams) -> Rewrite:
    """quantize(dq(x) dq(y), q) = qmul(x, y -> q)"""
    product = mul(dequantize(x, qx, "float32"), dequantize(y, qy, "float32"))
    return (
        rewrite(quantize(product, q))
        .to(qbinary("qmul", x, qx, y, qy, q))
        .when(*kernel_combines("qmul", x, qx, y, qy, q))
    )
