"""How contractions of dequantized values become int8 kernels, and what those kernels take in with them."""

from qegraph.lang import (
    Dims,
    Integer,
    Kind,
    Move,
    Number,
    QParams,
    Tensor,
    Text,
    UnaryFn,
    absent,
    absorbs,
    add,
    avg_pool,
    cast,
    channels_are,
    conv,
    dequantize,
    differs,
    expand,
    filled,
    flip,
    gemm,
    has_dtype,
    identity,
    image_of,
    in_front,
    is_floating,
    kernel_accepts,
    kernel_adds_bias,
    kernel_pads,
    kernel_reads_activation,
    kernel_reads_weight,
    kernel_stores,
    max_pool,
    move,
    nothing,
    odd_window,
    per_tensor,
    positive_scale,
    product_shape,
    qgemm,
    quantize,
    real,
    result_shape,
    rewrite,
    rule,
    same_dtype,
    shape_is,
    spans_dtype,
    stored_like,
    unary,
    vec,
    view,
    weights_are,
)
from qegraph.lang.rule import Rewrite

FLOAT = real("float32")


def plus_128(i: Integer) -> Integer:
    return Integer.of("+", i, 128)


@rule
def gemm_int8(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, d: Text) -> Rewrite:
    """gemm(dq(x), dq(w)) + b = s_x s_w sum((x - z_x) w) + b : the sum of the codes is exact in int32"""
    return (
        rewrite(gemm(k, dequantize(x, qx, d), dequantize(w, qw, d), b))
        .to(cast(qgemm(k, x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT), d))
        .when(*kernel_reads_activation(k, x, qx), *kernel_reads_weight(qx, w, qw))
        .when(kernel_adds_bias(w, b), *kernel_pads(k, x, qx, w))
    )


@rule
def post_op(
    f: UnaryFn, k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, o: Tensor, qo: QParams
) -> Rewrite:
    """f(qgemm(...)) = qgemm(..., f) : the kernel applies f to its float32 accumulator before it stores"""
    return (
        rewrite(unary(f, qgemm(k, x, qx, w, qw, b, o, qo, identity(), FLOAT)))
        .to(qgemm(k, x, qx, w, qw, b, o, qo, f, FLOAT))
        .when(kernel_accepts(k, qo, FLOAT, f))
    )


@rule
def residual(k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, y: Tensor, d: Text) -> Rewrite:
    """qgemm(...) + y = qgemm(..., + y) : the kernel adds a float operand of its own shape"""
    product = qgemm(k, x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT)
    return (
        rewrite(add(product, y))
        .to(qgemm(k, x, qx, w, qw, b, y, real(d), identity(), FLOAT))
        .when(has_dtype(y, d), product_shape(product, y), kernel_accepts(k, d, FLOAT, identity()))
    )


@rule
def residual_broadcast(g: Tensor, y: Tensor, s: Dims, t: Dims) -> Rewrite:
    """g + y = g + expand(y) : a broadcast residual is spread out first, which the kernels need"""
    return (
        rewrite(add(g, y))
        .to(add(g, move(expand(s), y)))
        .when(absorbs(g), shape_is(g, s), shape_is(y, t), differs(s, t), is_floating(y), result_shape(s))
    )


@rule
def requantize(
    k: Kind, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor, o: Tensor, qo: QParams, f: UnaryFn, q: QParams
) -> Rewrite:
    """quantize(qgemm(...), q) = qgemm(... -> q) : the kernel rounds and saturates itself, 1 LSB apart at ties"""
    return (
        rewrite(quantize(qgemm(k, x, qx, w, qw, b, o, qo, f, FLOAT), q))
        .to(qgemm(k, x, qx, w, qw, b, o, qo, f, q))
        .when(spans_dtype(q), positive_scale(q), kernel_stores(qx, q), kernel_accepts(k, qo, q, f))
    )


@rule
def requantize_residual(
    k: Kind,
    x: Tensor,
    qx: QParams,
    w: Tensor,
    qw: QParams,
    b: Tensor,
    y: Tensor,
    qy: QParams,
    d: Text,
    f: UnaryFn,
    q: QParams,
) -> Rewrite:
    """quantize(qgemm(..., + dq(y), f), q) = qgemm(..., + y, f -> q) : the residual is read as codes too"""
    product = qgemm(k, x, qx, w, qw, b, dequantize(y, qy, d), real(d), f, FLOAT)
    return (
        rewrite(quantize(product, q))
        .to(qgemm(k, x, qx, w, qw, b, y, qy, f, q))
        .when(spans_dtype(q), positive_scale(q), stored_like(y, q), kernel_stores(qx, q), kernel_accepts(k, qy, q, f))
    )


@rule
def conv_of_int8(
    st: Dims,
    pd: Dims,
    dl: Dims,
    g: Integer,
    x: Tensor,
    s: Number,
    z: Integer,
    lo: Integer,
    hi: Integer,
    w: Tensor,
    b: Tensor,
    d: Text,
) -> Rewrite:
    """dq(x: int8, z) = dq(x xor 0x80: uint8, z + 128) : convolution kernels read uint8 only"""
    kind = conv(st, pd, dl, g)
    as_bytes = per_tensor(s, plus_128(z), plus_128(lo), plus_128(hi), "uint8")
    return rewrite(gemm(kind, dequantize(x, per_tensor(s, z, lo, hi, "int8"), d), w, b)).to(
        gemm(kind, dequantize(flip(x), as_bytes, d), w, b)
    )


@rule
def flip_of_quantize(x: Tensor, s: Number, z: Integer, lo: Integer, hi: Integer) -> Rewrite:
    """quantize(x, int8, z) xor 0x80 = quantize(x, uint8, z + 128)"""
    return rewrite(flip(quantize(x, per_tensor(s, z, lo, hi, "int8")))).to(
        quantize(x, per_tensor(s, plus_128(z), plus_128(lo), plus_128(hi), "uint8"))
    )


@rule
def flip_of_flip(x: Tensor) -> Rewrite:
    """x xor 0x80 xor 0x80 = x"""
    return rewrite(flip(flip(x))).to(x)


@rule
def max_pool_of_int8(x: Tensor, k: Dims, s: Dims, p: Dims, d: Dims, c: Integer) -> Rewrite:
    """max(x_i: int8) = max(x_i xor 0x80: uint8) xor 0x80 : the kernel for codes reads uint8 only"""
    return rewrite(max_pool(x, k, s, p, d, c)).to(flip(max_pool(flip(x), k, s, p, d, c))).when(has_dtype(x, "int8"))


@rule
def conv1d_is_conv2d(
    st: Dims, pd: Dims, dl: Dims, g: Integer, x: Tensor, qx: QParams, w: Tensor, qw: QParams, b: Tensor,
    st2: Dims, pd2: Dims, dl2: Dims, x2: Dims, w2: Dims, y: Dims,
) -> Rewrite:  # fmt: skip
    """conv1d(x, w) = conv2d of images one pixel high : the 2-d kernel takes in more"""
    product = qgemm(conv(st, pd, dl, g), x, qx, w, qw, b, nothing(), absent(), identity(), FLOAT)
    windows = conv(st2, pd2, dl2, g)
    image = qgemm(windows, move(view(x2), x), qx, move(view(w2), w), qw, b, nothing(), absent(), identity(), FLOAT)
    return (
        rewrite(product)
        .to(move(view(y), image))
        .when(in_front(1, st, st2), in_front(0, pd, pd2), in_front(1, dl, dl2))
        .when(image_of(x, x2), image_of(w, w2), shape_is(product, y))
    )


@rule
def average_pool_int8(
    x: Tensor, qx: QParams, k: Dims, st: Dims, pd: Dims, h: Integer, w: Integer, c: Integer
) -> Rewrite:
    """mean(dq(x)) over a window = a depthwise convolution with ones, scaled by 1 / window"""
    ones = filled(vec(c, 1, h, w), 1, "int8")
    share = per_tensor(Number.of("/", 1.0, Number.of("to-f64", Integer.of("*", h, w))), 0, -128, 127, "int8")
    kind = conv(st, pd, vec(1, 1), c)
    return (
        rewrite(avg_pool(dequantize(x, qx, "float32"), k, st, pd))
        .to(qgemm(kind, x, qx, ones, share, nothing(), nothing(), absent(), identity(), FLOAT))
        .when(
            odd_window(k, h, w), channels_are(x, c), weights_are(qx, "int8"), *kernel_reads_activation("conv2d", x, qx)
        )
    )


@rule
def post_op_through_move(f: UnaryFn, m: Move, x: Tensor) -> Rewrite:
    """f(move(x)) = move(f(x)) : elementwise, so where the elements stand plays no part"""
    return rewrite(unary(f, move(m, x))).to(move(m, unary(f, x))).when(absorbs(x))


@rule
def residual_through_view(v: Dims, g: Tensor, y: Tensor, s: Dims) -> Rewrite:
    """view(g) + y = view(g + view(y)) : both sums pair the same elements"""
    return (
        rewrite(add(move(view(v), g), y))
        .to(move(view(v), add(g, move(view(s), y))))
        .when(absorbs(g), shape_is(y, v), same_dtype(g, y), shape_is(g, s))
    )
