"""The guards rules are restricted by. Each is a fact of the e-graph and says in words why it is needed.

Facts are set when the program is loaded (`qegraph.encode`) or follow from others (`qegraph.facts`). The reasons carry
the numbers of the reference's defects they rule out, as listed in `tests/test_defects.py`.
"""

from __future__ import annotations

from qegraph.lang.rule import Guard
from qegraph.lang.terms import Dims, Integer, Kind, Number, QParams, Tensor, Text, UnaryFn


def is_constant(x: Tensor) -> Guard:
    """x is a parameter or buffer of the source module."""
    return Guard(
        "is-constant", "the weight must be a constant: it is packed once, not on every call", (f"(constant {x})",)
    )


def has_dtype(x: Tensor, dtype: Text | str) -> Guard:
    """x's dtype is `dtype`."""
    text = dtype if isinstance(dtype, Text) else f'"{dtype}"'
    return Guard("has-dtype", f"{x} must be {text}", (f"(= (dtype {x}) {text})",))


def same_dtype(x: Tensor, y: Tensor) -> Guard:
    return Guard("same-dtype", f"{x} and {y} must have one dtype", (f"(= (dtype {x}) (dtype {y}))",))


def same_shape(x: Tensor, y: Tensor) -> Guard:
    return Guard("same-shape", f"{x} and {y} must have one shape", (f"(= (shape {x}) (shape {y}))",))


def shape_is(x: Tensor, s: Dims) -> Guard:
    """Binds s where it is not bound yet."""
    return Guard("shape-is", f"{x} must have the shape {s}", (f"(= {s} (shape {x}))",), (s,))


def differs(a: Dims, b: Dims) -> Guard:
    return Guard("differs", f"{a} and {b} must differ", (f"(!= {a} {b})",))


def per_tensor_params(q: QParams) -> Guard:
    """One scale for the whole tensor, so that moving elements keeps their meaning."""
    return Guard(
        "per-tensor-params", "parameters per channel are tied to an axis; per tensor are needed", (f"(per-tensor {q})",)
    )


def positive_scale(q: QParams) -> Guard:
    """quantize is monotone only for a positive scale."""
    return Guard("positive-scale", "the scale must be positive and finite", (f"(positive {q})",))


def spans_dtype(q: QParams) -> Guard:
    return Guard(
        "spans-dtype",
        "the kernel saturates at the dtype's range, not at a narrower quant_min/quant_max (D1)",
        (f"(spans-dtype {q})",),
    )


def narrower_than_dtype(low: Integer, high: Integer, dtype: Text, full_low: Integer, full_high: Integer) -> Guard:
    """Binds the dtype's own range."""
    return Guard(
        "narrower-than-dtype",
        "the range must be narrower than its dtype",
        (
            f"(= {full_low} (dtype-low {dtype}))",
            f"(= {full_high} (dtype-high {dtype}))",
            f"(!= (+ (- {low} {full_low}) (- {full_high} {high})) 0)",
        ),
        (full_low, full_high),
    )


def kernel_reads_activation(kind: Kind | str, x: Tensor, qx: QParams) -> tuple[Guard, ...]:
    """The activation is stored in a form the int8 kernel of this kind (or kind's name) reads, on this machine."""
    name = f"(kind-name {kind})" if isinstance(kind, Kind) else f'"{kind}"'
    return (
        Guard(
            "activation-params",
            "the kernel takes one scale and zero point for the activation",
            (f"(per-tensor {qx})", f"(positive {qx})"),
        ),
        Guard(
            "activation-dtype",
            "the kernel reads uint8 activations (linear: int8 too) (D11)",
            (f"(= (dtype {x}) (q-dtype {qx}))", f"(reads {name} (q-dtype {qx}))"),
        ),
        Guard(
            "activation-exact-on-this-cpu",
            "without VNNI the kernel adds pairs in 16 bits and saturates for activations above 127",
            (f"(exact-here {x} {qx})",),
        ),
    )


def kernel_reads_weight(kind: Kind, w: Tensor, qw: QParams) -> tuple[Guard, ...]:
    """The weight is stored in a form the int8 kernels read."""
    return (
        is_constant(w),
        Guard(
            "weight-dtype", "the kernel reads int8 weights", (f'(= (dtype {w}) "int8")', f'(= (q-dtype {qw}) "int8")')
        ),
        Guard(
            "weight-symmetric", "the kernel ignores weight zero points; they must all be 0 (D7)", (f"(symmetric {qw})",)
        ),
        Guard(
            "weight-axis", "weight scales must run along the output channels, axis 0 (D8)", (f"(along-outputs {qw})",)
        ),
        Guard(
            "weight-scales",
            "weight scales must be constant, float32, positive, one per output channel",
            (f"(scales-fit {qw} {w})",),
        ),
        Guard("accumulator-fits", "K * 255 * 128 must stay below 2^31, the int32 accumulator", (f"(accumulates {w})",)),
    )


def kernel_adds_bias(w: Tensor, b: Tensor) -> Guard:
    return Guard(
        "bias-fits", "the bias must be a float32 vector with one entry per output channel", (f"(bias-fits {b} {w})",)
    )


def kernel_accepts(kind: Kind, qo: QParams, out: QParams, f: UnaryFn) -> Guard:
    """The row (kind, operand storage, output storage, post-op) is in the kernel table of `qegraph.kernels`."""
    return Guard(
        "kernel-accepts",
        "no kernel has this post-op with this operand and output (table in qegraph/kernels.py)",
        (f"(accepts (kind-name {kind}) (storage {qo}) (storage {out}) (fn-name {f}))",),
    )


def keeps_last_dim(m: Tensor, x: Tensor) -> Guard:
    """The view m of x regroups leading dims only (D9)."""
    return Guard(
        "keeps-last-dim",
        "the view must keep the last dim, the one the linear contracts (D9)",
        (f"(= (last-dim {m}) (last-dim {x}))",),
    )


def last_dim_is(x: Tensor, n: Integer) -> Guard:
    return Guard("last-dim-is", f"the last dim of {x} must be {n}", (f"(= {n} (last-dim {x}))",), (n,))


def is_vector(b: Tensor, n: Integer) -> Guard:
    """b has shape (n,)."""
    return Guard(
        "is-vector", f"{b} must be a vector with one entry per output channel", (f"(= (shape {b}) (vec-of {n}))",)
    )


def rank_is(x: Tensor, rank: int) -> Guard:
    return Guard("rank-is", f"{x} must have {rank} dims", (f"(= {rank} (rank {x}))",))


def stacks(y: Tensor, w: Tensor) -> Guard:
    """Every matrix of the batch y is the matrix w. Binds w."""
    return Guard("stacks", f"{y} must be one matrix repeated over the batch", (f"(stacks {y} {w})",), (w,))


def absorbs(x: Tensor) -> Guard:
    """x is the float output of an int8 contraction (possibly rearranged) that can still take a post-op."""
    return Guard("absorbs", "only an int8 contraction with a float output takes a post-op", (f"(absorbs {x})",))


def close(value: Number, constant: float) -> Guard:
    """A literal of a decomposition, up to float32 rounding of its printed form."""
    return Guard(
        "close", f"the factor must be {constant}", (f"(< (abs (- {value} {constant!r})) {abs(constant) * 1e-6!r})",)
    )


def product_shape(product: Tensor, y: Tensor) -> Guard:
    return Guard(
        "product-shape", "the residual must have the product's own shape", (f"(= (shape {product}) (shape {y}))",)
    )


def sum_shape(x: Tensor, y: Tensor, s: Dims) -> Guard:
    """x + y has shape s, so that only y is broadcast."""
    return Guard("sum-shape", "only the residual may be broadcast", (f"(= {s} (shape (Add {x} {y})))",))


def stored_like(y: Tensor, q: QParams) -> Guard:
    return Guard(
        "stored-like", "a residual read as codes must have the output's dtype", (f"(= (dtype {y}) (q-dtype {q}))",)
    )


def codes_of(x: Tensor, q: QParams) -> Guard:
    return Guard("codes-of", f"{x} must be stored in the dtype of its parameters", (f"(= (dtype {x}) (q-dtype {q}))",))


def ranges_meet(low: Number, high: Number) -> Guard:
    return Guard("ranges-meet", "the two ranges must overlap", (f"(<= {low} {high})",))


def is_zero(value: Number) -> Guard:
    return Guard("is-zero", "the bound must be 0", (f"(= {value} 0.0)",))


def is_code(z: Integer, low: Integer, high: Integer) -> Guard:
    return Guard("is-code", "the zero point must be a code", (f"(<= {low} {z})", f"(<= {z} {high})"))


def outputs_are(w: Tensor, n: Integer) -> Guard:
    """Binds n, the number of output channels of the weight w."""
    return Guard("outputs-are", "the weight must have a known shape", (f"(= {n} (vec-get (shape {w}) 0))",), (n,))


def saturates_at_zero(q: QParams) -> Guard:
    """The lowest code stands for 0, so that quantizing is itself a relu."""
    return Guard("saturates-at-zero", "the lowest code must stand for 0", (f"(saturates-at-zero {q})",))


def odd_window(kernel: Dims, height: Integer, width: Integer) -> Guard:
    """Binds the window's sides."""
    return Guard(
        "odd-window",
        "the sum of an even number of codes is often midway between two multiples, where rounding is anyone's choice",
        (
            f"(= {height} (vec-get {kernel} 0))",
            f"(= {width} (vec-get {kernel} 1))",
            f"(= 1 (% (* {height} {width}) 2))",
        ),
        (height, width),
    )


def channels_are(x: Tensor, c: Integer) -> Guard:
    """Binds c, the number of channels of the image x."""
    return Guard(
        "channels-are",
        f"{x} must be an image with a known number of channels",
        (f"(= 4 (rank {x}))", f"(= {c} (vec-get (shape {x}) 1))", f"(> {c} 0)"),
        (c,),
    )


def kernel_present(name: str) -> Guard:
    """The installed torch has this kernel; see `qegraph.kernels.OPTIONAL`."""
    return Guard("kernel-present", f"this torch has no {name} for this CPU", (f'(present "{name}")',))


def kernel_normalizes(
    x: Tensor, qx: QParams, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Guard, ...]:
    """The batch-norm kernel reads uint8 images and float32 statistics."""
    floats = " ".join(f'(= (dtype {each}) "float32")' for each in (w, b, mean, variance))
    return (
        kernel_present("qbatch_norm2d"),
        Guard(
            "norm-operand", "the batch-norm kernel reads rank-4 uint8 codes with one scale",
            (f'(= (dtype {x}) "uint8")', f'(= (q-dtype {qx}) "uint8")', f"(per-tensor {qx})", f"(= 4 (rank {x}))"),
        ),
        Guard("norm-statistics", "the batch-norm kernel reads float32 weight, bias, mean and variance", (floats,)),
    )  # fmt: skip


def kernel_stores_norm(q: QParams) -> Guard:
    return Guard("stores-uint8", "the batch-norm kernel stores uint8", (f'(= (q-dtype {q}) "uint8")',))


def is_nonzero(value: Number) -> Guard:
    return Guard("is-nonzero", "the divisor must not be 0", (f"(!= {value} 0.0)",))


# -- weights and scales ------------------------------------------------------------------------------------------------


def kernel_reads_narrow_weight(x: Tensor, w: Tensor, s: Tensor, dtype: Text) -> tuple[Guard, ...]:
    """Codes w with scales s and floats x of `dtype` are what the weight-only kernel takes."""
    return (
        kernel_present("weight_only"),
        is_constant(s),
        Guard(
            "weight-only-fits",
            "the weight must be a constant int8 matrix; the bfloat16 kernel reads 16 codes at a time, past its end too",
            (f"(weight-only-fits {w} {dtype})",),
        ),
        has_dtype(x, dtype),
        has_dtype(s, dtype),
        Guard(
            "scale-per-output",
            "the scales must be one per output",
            (f"(= (shape {s}) (vec-of (vec-get (shape {w}) 0)))",),
        ),
    )


def is_finite(w: Tensor) -> Guard:
    return Guard("is-finite", "the half-float kernel saturates what is infinite as a half float", (f"(finite {w})",))


def scalable(x: Tensor) -> Guard:
    """x is a contraction that takes in factors of its outputs, possibly multiplied or rounded already."""
    return Guard("scalable", "only a contraction of codes takes in a factor", (f"(scalable {x})",))


def is_per_row(r: Tensor) -> Guard:
    """r has one number per row. A vector over the outputs would swap with its like in every order there is."""
    return Guard("is-per-row", "the factor must be one per row", (f"(= 1 (last-dim {r}))", f"(>= (rank {r}) 2)"))


def is_column(s: Tensor, n: Integer) -> Guard:
    """s has shape (n, 1). Binds n."""
    return Guard(
        "is-column",
        "the scales must be one per output, along axis 0",
        (f"(= {n} (vec-get (shape {s}) 0))", f"(= (shape {s}) (vec-of {n} 1))"),
        (n,),
    )


def per_output(kind: Kind, w: Tensor, c: Tensor) -> tuple[Guard, ...]:
    """c is a float32 constant with one number for each output channel of the weight w."""
    return (
        is_constant(c),
        has_dtype(c, "float32"),
        Guard(
            "per-output",
            "the constant must stand for output channels",
            (f"(per-output {c} (spatial-dims {kind}) (vec-get (shape {w}) 0))",),
        ),
    )


def kernel_reads_codes(w: Tensor) -> tuple[Guard, ...]:
    """w, read as it is, with scale 1, is a weight of the int8 kernels."""
    return (
        is_constant(w),
        has_dtype(w, "int8"),
        Guard("accumulator-fits", "K * 255 * 128 must stay below 2^31, the int32 accumulator", (f"(accumulates {w})",)),
    )


def one_element(x: Tensor) -> Guard:
    return Guard("one-element", f"{x} must have one element", (f"(one-element {x})",))


def channels_at_one(kind: Kind, product: Tensor) -> Guard:
    """The output channels stand in dim 1, where a batch normalization works."""
    return Guard(
        "channels-at-1", "the channels must stand in dim 1", (f"(= (rank {product}) (+ 2 (spatial-dims {kind})))",)
    )


def range_of(x: Tensor, dtype: Text, low: Integer, high: Integer) -> Guard:
    """Binds x's integer dtype and its range."""
    facts = (f"(= {dtype} (dtype {x}))", f"(= {low} (dtype-low {dtype}))", f"(= {high} (dtype-high {dtype}))")
    return Guard("range-of", f"{x} must be int8 or uint8", facts, (dtype, low, high))
