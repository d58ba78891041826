"""The guards rules are restricted by. Each is a fact of the e-graph and says in words why it is needed.

Facts are set when the program is loaded (`qegraph.encode`) or follow from others (`qegraph.facts`). The reasons carry
the numbers of the reference's defects they rule out, as listed in `tests/test_defects.py`.
"""

from __future__ import annotations

from qegraph.lang.rule import Guard
from qegraph.lang.terms import Dims, Integer, Move, Number, QParams, Tensor, Text

ROOT = "root-of-match"
"""The variable that stands for the value a rule matches."""


def is_constant(x: Tensor) -> Guard:
    """x is a parameter or buffer of the source module."""
    return Guard(
        "is-constant",
        "the weight must be a constant: it is packed once, not on every call",
        (f"(constant {x})",),
        fix="make it a parameter or buffer; what is computed from constants alone is folded first",
    )


def has_dtype(x: Tensor, dtype: Text | str) -> Guard:
    """x's dtype is `dtype`. Binds it where it is not bound yet."""
    text = dtype if isinstance(dtype, Text) else f'"{dtype}"'
    binds = (dtype,) if isinstance(dtype, Text) else ()
    return Guard("has-dtype", f"{x} must be {text}", (f"(= {text} (dtype {x}))",), binds)


def same_dtype(x: Tensor, y: Tensor) -> Guard:
    return Guard(
        "same-dtype",
        f"{x} and {y} must have one dtype",
        (f"(= (dtype {x}) (dtype {y}))",),
        fix="bring both to one dtype",
    )


def same_shape(x: Tensor, y: Tensor) -> Guard:
    return Guard(
        "same-shape",
        f"{x} and {y} must have one shape",
        (f"(= (shape {x}) (shape {y}))",),
        fix="bring both to one shape before",
    )


def keeps_shape(x: Tensor) -> Guard:
    """The value the rule matches has the shape of x, whichever side of a commutative word x is on."""
    return Guard(
        "keeps-shape",
        "what it is combined with must not broadcast it",
        (f"(= (shape {x}) (shape {ROOT}))",),
        fix="bring both to one shape before",
    )


def shape_is(x: Tensor, s: Dims) -> Guard:
    """Binds s where it is not bound yet."""
    return Guard("shape-is", f"{x} must have the shape {s}", (f"(= {s} (shape {x}))",), (s,))


def differs(a: Dims, b: Dims) -> Guard:
    return Guard("differs", f"{a} and {b} must differ", (f"(!= {a} {b})",))


def per_tensor_params(q: QParams) -> Guard:
    """One scale for the whole tensor, so that moving elements keeps their meaning."""
    return Guard(
        "per-tensor-params",
        "parameters per channel are tied to an axis; per tensor are needed",
        (f"(per-tensor {q})",),
        fix="quantize with one scale and zero point for the whole tensor",
    )


def positive_scale(q: QParams) -> Guard:
    """quantize is monotone only for a positive scale."""
    return Guard(
        "positive-scale",
        "the scale must be positive and finite",
        (f"(positive {q})",),
        fix="calibrate with data that isn't all one value: the scale must be above 0 and below 1e30",
    )


def spans_dtype(q: QParams) -> Guard:
    return Guard(
        "spans-dtype",
        "the kernel saturates at the dtype's range, not at a narrower quant_min/quant_max (D1)",
        (f"(spans-dtype {q})",),
        fix="quantize with quant_min and quant_max of the whole dtype: 0..255 of uint8, -128..127 of int8",
    )


def stores_bytes(q: QParams) -> Guard:
    """Per tensor, as uint8 or int8."""
    return Guard(
        "stores-bytes",
        "wider codes are not exact in float32, and overflow for infinity",
        (f"(bytes {q})",),
        fix="quantize to uint8 or int8",
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
        fix="keep the last dim in the view, and regroup only those before it",
    )


def keeps_first_dim(m: Tensor, x: Tensor) -> Guard:
    return Guard(
        "keeps-first-dim",
        "the view must keep the first dim, the one the scales run along",
        (f"(= (vec-get (shape {m}) 0) (vec-get (shape {x}) 0))",),
        fix="keep the first dim in the view",
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
    return Guard(
        "rank-is",
        f"{x} must have {rank} dims",
        (f"(= {rank} (rank {x}))",),
        fix="reshape it, or write the product as a linear",
    )


def stacks(y: Tensor, w: Tensor) -> Guard:
    """Every matrix of the batch y is the matrix w. Binds w."""
    return Guard("stacks", f"{y} must be one matrix repeated over the batch", (f"(stacks {y} {w})",), (w,))


def absorbs(x: Tensor) -> Guard:
    """x is the float output of an int8 contraction (possibly rearranged) that can still take a post-op."""
    return Guard(
        "absorbs",
        "only an int8 contraction with a float output takes a post-op",
        (f"(absorbs {x})",),
        fix="put it right behind an int8 matmul or convolution",
    )


def close(value: Number, constant: float) -> Guard:
    """A literal of a decomposition, up to its rounding to float32."""
    return Guard(
        "close", f"the factor must be {constant}", (f"(< (abs (- {value} {constant!r})) {abs(constant) * 6e-8!r})",)
    )


def product_shape(product: Tensor, y: Tensor) -> Guard:
    return Guard(
        "product-shape",
        "the residual must have the product's own shape",
        (f"(= (shape {product}) (shape {y}))",),
        fix="make the residual as large as the product; one that is broadcast is spread out first",
    )


def result_shape(s: Dims) -> Guard:
    return Guard(
        "result-shape",
        "only the residual may be broadcast",
        (f"(= {s} (shape {ROOT}))",),
        fix="broadcast the residual, not the product",
    )


def codes_of(x: Tensor, q: QParams) -> Guard:
    return Guard("codes-of", f"{x} must be stored in the dtype of its parameters", (f"(= (dtype {x}) (q-dtype {q}))",))


def is_zero(value: Number) -> Guard:
    return Guard("is-zero", "the bound must be 0", (f"(= {value} 0.0)",))


def is_code(z: Integer, low: Integer, high: Integer) -> Guard:
    return Guard(
        "is-code",
        "the zero point must be a code",
        (f"(<= {low} {z})", f"(<= {z} {high})"),
        fix="choose a zero point within quant_min..quant_max",
    )


def outputs_are(w: Tensor, n: Integer) -> Guard:
    """Binds n, the number of output channels of the weight w."""
    return Guard("outputs-are", "the weight must have a known shape", (f"(= {n} (vec-get (shape {w}) 0))",), (n,))


def is_factor(c: Number, scale: Number) -> Guard:
    """Scaling by c keeps the order of numbers, and the scale in the range of float32."""
    return Guard(
        "is-factor",
        "the factor must be positive, and the scale stay in range",
        (f"(> {c} 0.0)", f"(> {scale} 1e-30)", f"(< {scale} 1e30)"),
        fix="multiply by a positive number",
    )


def is_nonzero(value: Number) -> Guard:
    return Guard("is-nonzero", "the divisor must not be 0", (f"(!= {value} 0.0)",), fix="divide by another number")
