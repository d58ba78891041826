"""Guards of weights stored narrower than they are used, and of the factors and biases that kernels take in."""

from __future__ import annotations

from qegraph.lang.guards import has_dtype, is_constant
from qegraph.lang.kernel_guards import kernel_present, not_empty
from qegraph.lang.rule import Guard
from qegraph.lang.terms import Integer, Kind, Tensor, Text


def kernel_reads_narrow_weight(x: Tensor, w: Tensor, s: Tensor, dtype: Text) -> tuple[Guard, ...]:
    """Codes w, scales s and floats x of `dtype` are what the weight-only kernel takes, if s is a vector."""
    return (
        kernel_present("weight_only"),
        is_constant(s),
        Guard(
            "weight-only-fits",
            "the weight must be a constant int8 matrix, no longer than float32 sums are exact enough for; the bfloat16 "
            "kernel reads 16 codes at a time, past its end too",
            (f"(weight-only-fits {w} {dtype})",),
            fix="store the weight as a constant int8 matrix; at most 32768 inputs; for bfloat16, a multiple of 16",
        ),
        not_empty(x),
        has_dtype(x, dtype),
        has_dtype(s, dtype),
    )


def scale_per_output(w: Tensor, s: Tensor) -> Guard:
    return Guard(
        "scale-per-output",
        "the scales must be one per output",
        (f"(= (shape {s}) (vec-of (vec-get (shape {w}) 0)))",),
        fix="give one scale for each output, of shape (outputs,)",
    )


def is_finite(w: Tensor) -> Guard:
    return Guard(
        "is-finite",
        "the half-float kernel saturates what is infinite as a half float",
        (f"(finite {w})",),
        fix="clamp the weight to the range of float16 before it is stored",
    )


def scalable(x: Tensor) -> Guard:
    """x is a contraction that takes in factors of its outputs, possibly multiplied or rounded already."""
    return Guard(
        "scalable",
        "only a contraction of codes takes in a factor",
        (f"(scalable {x})",),
        fix="multiply right behind the contraction of the codes",
    )


def is_per_row(r: Tensor) -> Guard:
    """r has one number per row. A vector over the outputs would swap with its like in every order there is."""
    return Guard(
        "is-per-row",
        "the factor must be one per row",
        (f"(= 1 (last-dim {r}))", f"(>= (rank {r}) 2)"),
        fix="shape the factor (rows, 1)",
    )


def is_column(s: Tensor, n: Integer) -> Guard:
    """s has shape (n, 1). Binds n."""
    return Guard(
        "is-column",
        "the scales must be one per output, along axis 0",
        (f"(= {n} (vec-get (shape {s}) 0))", f"(= (shape {s}) (vec-of {n} 1))"),
        (n,),
        fix="shape the scales (outputs, 1)",
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
            fix="shape the constant so that it goes over the output channels",
        ),
    )


def kernel_reads_codes(w: Tensor) -> tuple[Guard, ...]:
    """w, read as it is, with scale 1, is a weight of the int8 kernels."""
    return (
        is_constant(w),
        has_dtype(w, "int8"),
        Guard(
            "accumulator-fits",
            "K * 255 * 128 must stay below 2^31, the int32 accumulator",
            (f"(accumulates {w})",),
            fix="split the sum into several products",
        ),
    )


def one_element(x: Tensor) -> Guard:
    return Guard(
        "one-element",
        f"{x} must have one element",
        (f"(one-element {x})",),
        fix="use one scale for the whole activation",
    )


def channels_at_one(kind: Kind, product: Tensor) -> Guard:
    """The output channels stand in dim 1, where a batch normalization works."""
    return Guard(
        "channels-at-1",
        "the channels must stand in dim 1",
        (f"(= (rank {product}) (+ 2 (spatial-dims {kind})))",),
        fix="normalize over the output channels, dim 1 of the product",
    )


def range_of(x: Tensor, dtype: Text, low: Integer, high: Integer) -> Guard:
    """Binds x's integer dtype and its range."""
    facts = (f"(= {dtype} (dtype {x}))", f"(= {low} (dtype-low {dtype}))", f"(= {high} (dtype-high {dtype}))")
    return Guard(
        "range-of", f"{x} must be int8 or uint8", facts, (dtype, low, high), fix="multiply int8 or uint8 codes"
    )
