"""The guards rules are restricted by. Each is a fact of the e-graph and says in words why it is needed.

Facts are set when the program is loaded (`qegraph.encode`) or follow from others (`qegraph.facts`). The reasons carry
the numbers of the reference's defects they rule out, as listed in `tests/test_defects.py`.
"""

from __future__ import annotations

from qegraph.lang.rule import Guard
from qegraph.lang.terms import Dims, Integer, Kind, Move, Number, QParams, Tensor, Text, UnaryFn

ROOT = "root-of-match"
"""The variable that stands for the value a rule matches."""


def is_constant(x: Tensor) -> Guard:
    """x is a parameter or buffer of the source module."""
    return Guard(
        "is-constant", "the weight must be a constant: it is packed once, not on every call", (f"(constant {x})",)
    )


def has_dtype(x: Tensor, dtype: Text | str) -> Guard:
    """x's dtype is `dtype`. Binds it where it is not bound yet."""
    text = dtype if isinstance(dtype, Text) else f'"{dtype}"'
    binds = (dtype,) if isinstance(dtype, Text) else ()
    return Guard("has-dtype", f"{x} must be {text}", (f"(= {text} (dtype {x}))",), binds)


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


def stores_bytes(q: QParams) -> Guard:
    """Per tensor, as uint8 or int8."""
    return Guard("stores-bytes", "wider codes are not exact in float32, and overflow for infinity", (f"(bytes {q})",))


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
            (f"(per-tensor {qx})",),
        ),
        Guard(
            "activation-scale",
            "the activation's scale must be positive and finite: a number, or chosen with a positive eps",
            (f"(positive {qx})",),
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
        not_empty(x),
    )


def kernel_pads(kind: Kind, qx: QParams, w: Tensor) -> Guard:
    """Found by proof: with a zero point and windows wholly in the padding, the kernel reads memory nobody wrote."""
    return Guard(
        "windows-touch",
        "with a zero point every window must touch the image: what the kernel computes for others is garbage",
        (f"(pads-well {kind} {qx} {w})",),
    )


def not_empty(x: Tensor) -> Guard:
    return Guard("not-empty", "the kernels give an empty batch another rank", (f"(not-empty {x})",))


def weights_are(qx: QParams, dtype: Text | str) -> Guard:
    """The kernels that read activations stored like qx read weights of this dtype."""
    text = dtype if isinstance(dtype, Text) else f'"{dtype}"'
    return Guard(
        "weight-dtype",
        "the kernel reads int8 weights (float8 with float8 activations)",
        (f"(reads-weights (q-dtype {qx}) {text})",),
    )


def kernel_reads_weight(qx: QParams, w: Tensor, qw: QParams) -> tuple[Guard, ...]:
    """The weight is stored in a form the int8 kernels read."""
    return (
        is_constant(w),
        weights_are(qx, Text("q-dtype", (qw,))),
        Guard(
            "weight-codes",
            "the weight must be stored in the dtype of its parameters",
            (f"(= (dtype {w}) (q-dtype {qw}))",),
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
        "bias-fits", "the bias must be a float vector with one entry per output channel", (f"(bias-fits {b} {w})",)
    )


def kernel_stores(qx: QParams, out: QParams) -> Guard:
    """What the kernels that read codes like qx can store, beside plain floats."""
    return Guard(
        "kernel-stores",
        "a kernel that reads float8 doesn't store integers, and the other way round",
        (f"(stores (storage {qx}) (storage {out}))",),
    )


def kernel_accepts(kind: Kind | str, qo: QParams | Text, out: QParams | Text, f: UnaryFn) -> Guard:
    """The row (kind or its name, operand storage, output storage, post-op) is in the kernel table of `qegraph.kernels`.

    A float storage may be given by its dtype.
    """
    name = f"(kind-name {kind})" if isinstance(kind, Kind) else f'"{kind}"'
    operand, result = (f"(storage {each})" if isinstance(each, QParams) else str(each) for each in (qo, out))
    return Guard(
        "kernel-accepts",
        "no kernel has this post-op with this operand and output (table in qegraph/kernels.py)",
        (f"(accepts {name} {operand} {result} (fn-name {f}))",),
    )


def is_half(d: Text) -> Guard:
    return Guard("is-half", f"{d} must be bfloat16 or float16", (f"(half-dtype {d})",))


def is_floating(x: Tensor) -> Guard:
    return Guard("is-floating", f"{x} must be float32, bfloat16 or float16", (f"(float-dtype (dtype {x}))",))


def result_dtype(d: Text) -> Guard:
    """Binds d, the dtype of the value the rule matches."""
    return Guard("result-dtype", "the value must have a known dtype", (f"(= {d} (dtype {ROOT}))",), (d,))


def accumulated(x: Tensor) -> Guard:
    """x is the float32 output of an int8 contraction, possibly rearranged: as exact as its accumulator."""
    return Guard(
        "accumulated", "only an int8 contraction has the value before it is rounded", (f"(from-accumulator {x})",)
    )


def keeps_last_dim(m: Tensor, x: Tensor) -> Guard:
    """The view m of x regroups leading dims only (D9)."""
    return Guard(
        "keeps-last-dim",
        "the view must keep the last dim, the one the linear contracts (D9)",
        (f"(= (last-dim {m}) (last-dim {x}))",),
    )


def keeps_first_dim(m: Tensor, x: Tensor) -> Guard:
    return Guard(
        "keeps-first-dim",
        "the view must keep the first dim, the one the scales run along",
        (f"(= (vec-get (shape {m}) 0) (vec-get (shape {x}) 0))",),
    )


def axis_after(m: Move, a: Integer, b: Integer) -> Guard:
    """The permutation m moves dim a to b. Binds b."""
    return Guard("axis-after", f"{m} must be a permutation", (f"(= {b} (position {m} {a}))",), (b,))


def image_of(x: Tensor, t: Dims) -> Guard:
    """Binds t: the shape (A, B, C) of x with a dim of 1 in it, (A, B, 1, C)."""
    a, b, c = (f"(vec-get (shape {x}) {i})" for i in range(3))
    return Guard("image-of", f"{x} must have 3 dims", (f"(= 3 (rank {x}))", f"(= {t} (vec-of {a} {b} 1 {c}))"), (t,))


def in_front(first: int, d: Dims, e: Dims) -> Guard:
    """Binds e: `first` and then the only item of d."""
    return Guard(
        "in-front",
        f"{d} must have one item",
        (f"(= 1 (vec-length {d}))", f"(= {e} (vec-of {first} (vec-get {d} 0)))"),
        (e,),
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
    """A literal of a decomposition, up to its rounding to float32."""
    return Guard(
        "close", f"the factor must be {constant}", (f"(< (abs (- {value} {constant!r})) {abs(constant) * 6e-8!r})",)
    )


def product_shape(product: Tensor, y: Tensor) -> Guard:
    return Guard(
        "product-shape", "the residual must have the product's own shape", (f"(= (shape {product}) (shape {y}))",)
    )


def result_shape(s: Dims) -> Guard:
    return Guard("result-shape", "only the residual may be broadcast", (f"(= {s} (shape {ROOT}))",))


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
            (
                f'(= (dtype {x}) "uint8")', f'(= (q-dtype {qx}) "uint8")', f'(= "codes" (storage {qx}))',
                f"(= 4 (rank {x}))",
            ),
        ),
        not_empty(x),
        Guard("norm-statistics", "the batch-norm kernel reads float32 weight, bias, mean and variance", (floats,)),
    )  # fmt: skip


def kernel_stores_norm(q: QParams) -> Guard:
    return Guard("stores-uint8", "the batch-norm kernel stores uint8", (f'(= (q-dtype {q}) "uint8")',))


def is_factor(c: Number, scale: Number) -> Guard:
    """Scaling by c keeps the order of numbers, and the scale in the range of float32."""
    return Guard(
        "is-factor",
        "the factor must be positive, and the scale stay in range",
        (f"(> {c} 0.0)", f"(> {scale} 1e-30)", f"(< {scale} 1e30)"),
    )


def is_nonzero(value: Number) -> Guard:
    return Guard("is-nonzero", "the divisor must not be 0", (f"(!= {value} 0.0)",))
