"""Kernels that few machines have, or have right: each behind `kernel_present`, which looks."""

from qegraph.lang import (
    Number,
    QParams,
    Tensor,
    add,
    dequantize,
    embedding_bag,
    is_mask,
    keeps_shape,
    kernel_attends,
    kernel_combines,
    kernel_sums_rows,
    matmul,
    move,
    mul,
    nothing,
    per_tensor,
    permute,
    positive_scale,
    qattention,
    qbinary,
    qembedding_bag,
    quantize,
    real,
    relu,
    rewrite,
    rule,
    scalar,
    softmax,
    unary,
    vec,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")
SWAP = permute(vec(0, 1, 3, 2))


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


@rule(exact=False)
def embedding_bag_of_codes(w: Tensor, qw: QParams, i: Tensor, o: Tensor) -> Rewrite:
    """embedding_bag(dq(w)) = scale * the sums of the codes, where no bag is empty: the kernel always reads one row"""
    return (
        rewrite(embedding_bag(dequantize(w, qw, "float32"), i, o))
        .to(qembedding_bag(w, qw, i, o, FLOAT))
        .when(*kernel_sums_rows(w, qw))
    )


@rule(exact=False)
def requantize_embedding_bag(w: Tensor, qw: QParams, i: Tensor, o: Tensor, s: Number) -> Rewrite:
    """quantize(qembedding_bag(...), int8) = qembedding_bag(... -> int8) for the full range around 0"""
    q = per_tensor(s, 0, -128, 127, "int8")
    return (
        rewrite(quantize(qembedding_bag(w, qw, i, o, FLOAT), q))
        .to(qembedding_bag(w, qw, i, o, q))
        .when(positive_scale(q))
    )


@rule
def mask_of_softmax(x: Tensor, m: Tensor) -> Rewrite:
    """softmax(x + m) = softmax(x, mask m)"""
    return rewrite(softmax(add(x, m), 1.0, nothing())).to(softmax(x, 1.0, m)).when(keeps_shape(x), is_mask(m, x))


@rule
def scale_of_softmax(x: Tensor, c: Number, m: Tensor) -> Rewrite:
    """softmax(x c, mask m) = softmax(x, scale c, mask m)"""
    return rewrite(softmax(mul(x, scalar(c)), 1.0, m)).to(softmax(x, c, m))


@rule(exact=False)
def attention_of_codes(
    x: Tensor,
    qx: QParams,
    k: Tensor,
    qk: QParams,
    v: Tensor,
    qv: QParams,
    c: Number,
    m: Tensor,
    qa: QParams,
    q: QParams,
) -> Rewrite:
    """quantize(dq(quantize(softmax(dq(x) dq(k)), qa)) dq(v), q) = qattention : its exp is good to 20 bits"""
    scores = softmax(matmul(dequantize(x, qx, "float32"), dequantize(k, qk, "float32")), c, m)
    stored = dequantize(quantize(scores, qa), qa, "float32")
    return (
        rewrite(quantize(matmul(stored, dequantize(v, qv, "float32")), q))
        .to(qattention(x, qx, move(SWAP, k), qk, v, qv, c, m, qa, q))
        .when(*kernel_attends(x, (qx, qk, qv, qa, q), (x, k, v)))
    )
