"""Guards of single families of kernels: linears that run as one, elementwise kernels, embedding bags, attention."""

from __future__ import annotations

from qegraph.lang.guards import ROOT, codes_of, same_shape, spans_dtype
from qegraph.lang.kernel_guards import kernel_present
from qegraph.lang.rule import Guard
from qegraph.lang.terms import Dims, Expr, Integer, Kind, Move, Number, QParams, Tensor, UnaryFn


def next_of_same_operand(left: Tensor, right: Tensor, key: tuple[Expr, ...]) -> Guard:
    """Of the contractions that share the key (activation, its parameters, post-op, output) and how their weights are
    laid out, `right` is the one that follows `left` in the source. Binds what is new in either.
    """
    layout = f"(layout {list(left.args or ())[4]})"
    return Guard(
        "next-of-same-operand",
        "only contractions of the same activation, with the same post-op and output, run as one; their weights, scales "
        "and biases must be constants, and weights stored alike",
        (
            f"(= next-place (next-sibling {' '.join(map(str, key))} {layout} (place {left})))",
            f"(= (N next-place) {right})",
        ),
        (left, right),
        fix="let them read one value with the same post-op and output, over constant weights of one layout",
    )


MOST_PARTS = 4
"""Most linears that run as one: with k on the same codes the e-graph grows like 4 k, and extraction stays exact."""


def joinable(
    left: Tensor,
    right: Tensor,
    qw: QParams,
    qv: QParams,
    entries: tuple[Integer, Integer],
    outputs: tuple[Integer, Integer],
) -> tuple[Guard, ...]:
    """Binds, for the contractions left and right, the sizes of dim 0 of their weights and their numbers of outputs."""
    kind, _, _, w, _, b, *_ = list(left.args or ())
    _, _, _, v, _, c, *_ = list(right.args or ())
    (n, m), (r, t) = entries, outputs
    return (
        Guard(
            "joinable",
            f"at most {MOST_PARTS} weights and biases of one layout are joined, when the graph is made: all constants",
            (
                f"(= {n} (vec-get (shape {w}) 0))",
                f"(= {m} (vec-get (shape {v}) 0))",
                f"(= {r} (last-dim {left}))",
                f"(= {t} (last-dim {right}))",
                *(f"(constant {each})" for each in (w, v, b, c)),
                *(f"(float32-or-nothing {each})" for each in (b, c)),
                f"(= (vec-set (shape {w}) 0 1) (vec-set (shape {v}) 0 1))",
                f"(= (layout {qw}) (layout {qv}))",
                f"(< (parts {w}) {MOST_PARTS})",
            ),
            (n, m, r, t),
            fix="keep weights constant, and biases float32 constants; no more than four are joined",
        ),
        Guard(
            "whole-blocks",
            "what is packed in blocks of rows is joined block by block: all weights but the last must fill theirs",
            (f"(= 0 (% {n} (block {kind})))",),
            fix="make the number of outputs a multiple of the block",
        ),
    )


def cuts(m: Move, x: Tensor, start: Integer, length: Integer) -> Guard:
    """The matched value is x[..., start : start + length]. Binds start and length."""
    return Guard(
        "cuts",
        "only a stretch of the last dim, known when the graph is made, is a linear of its own",
        (f"(= {start} (stretch {m} (shape {x})))", f"(= {length} (last-dim {ROOT}))"),
        (start, length),
        fix="cut a stretch of the last dim with constant bounds",
    )


def kernel_combines(name: str, x: Tensor, qx: QParams, y: Tensor, qy: QParams, q: QParams) -> tuple[Guard, ...]:
    """The elementwise kernels of two codes read and store uint8, both operands in one shape."""
    stored = " ".join(f'(= (q-dtype {each}) "uint8") (per-tensor {each}) (positive {each})' for each in (qx, qy, q))
    return (
        Guard(
            "elementwise-right-here",
            f"{name} is not there, or is wrong on this machine (self-test in qegraph/kernels.py)",
            (f'(present "{name}")',),
            fix="keep it in floats here, or run where the self-test passes",
        ),
        Guard(
            "elementwise-uint8",
            "the elementwise kernels read and store uint8 with one scale",
            (stored,),
            fix="quantize both operands and the result to uint8, per tensor",
        ),
        codes_of(x, qx),
        codes_of(y, qy),
        same_shape(x, y),
        spans_dtype(q),
    )


def kernel_sums_rows(w: Tensor, qw: QParams) -> tuple[Guard, ...]:
    return (
        kernel_present("scaled_embedding_bag"),
        Guard(
            "bag-rows",
            "the embedding kernel reads int8 or float8 rows under one scale, with zero point 0",
            (f"(per-tensor {qw})", f"(symmetric {qw})", f"(positive {qw})", f"(sums-rows (q-dtype {qw}))"),
            fix="quantize the rows to int8 per tensor, with zero point 0",
        ),
        codes_of(w, qw),
    )


def kernel_attends(x: Tensor, params: tuple[QParams, ...], operands: tuple[Tensor, ...]) -> tuple[Guard, ...]:
    """All codes, those of the probabilities and of the result too, are stored alike."""
    first, *others = params
    alike = " ".join(f"(= (q-dtype {each}) (q-dtype {first}))" for each in others)
    codes = " ".join(f"(= (dtype {each}) (q-dtype {first}))" for each in operands)
    full = " ".join(f"(per-tensor {each}) (spans-dtype {each}) (positive {each})" for each in params)
    return (
        kernel_present("qscaled_dot_product"),
        Guard(
            "attention-codes",
            "the attention kernel reads and stores uint8, or float8, throughout",
            (f"(attends (q-dtype {first}))", alike, codes),
            fix="quantize everything in the attention to uint8, or everything to float8",
        ),
        Guard(
            "attention-params",
            "the attention kernel takes one scale and the whole range everywhere",
            (full,),
            fix="quantize per tensor over the whole range of the dtype",
        ),
        Guard(
            "attention-rank",
            "the attention kernel takes (batch, heads, tokens, channels)",
            (f"(= 4 (rank {x}))",),
            fix="bring the operands to (batch, heads, tokens, channels)",
        ),
    )


def is_mask(m: Tensor, scores: Tensor) -> Guard:
    """Of the forms the attention kernel takes: the shape of the scores, some dims 1, or their last two."""
    return Guard(
        "is-mask",
        "the mask must be float32 and of the rank of the scores",
        (f'(= (dtype {m}) "float32")', f"(= (rank {m}) (rank {scores}))"),
        fix="give a float32 mask of the rank of the scores",
    )


MAX_OFFSET = 400.0
"""Steps: float32 is off by at most 2.4e-5 of a step there, which moves as many codes across a rounding boundary."""


def is_pointwise(w: Tensor, n: Integer, c: Integer) -> Guard:
    """Binds n and c, the output and input channels of a 1x1 weight."""
    sizes = (f"(= {n} (vec-get (shape {w}) 0))", f"(= {c} (vec-get (shape {w}) 1))")
    return Guard("is-pointwise", "the weight must be 1x1", (*sizes, f"(= (shape {w}) (vec-of {n} {c} 1 1))"), (n, c))


def nonzero_point(z: Integer) -> Guard:
    return Guard(
        "nonzero-point",
        "the zero point must not be 0 already",
        (f"(!= {z} 0)",),
        fix="nothing: with zero point 0 there is nothing to take off",
    )


def is_unpadded(kind: Kind) -> Guard:
    return Guard(
        "is-unpadded",
        "only in an unpadded convolution: around a padded image the zero point stands for 0",
        (f"(unpadded {kind})",),
        fix="leave it to `padding-of-codes`, which pads the codes beforehand where it pays",
    )


def is_padded(padding: Dims) -> Guard:
    return Guard(
        "is-padded", "there must be padding, in two dims",
        (f"(= 2 (vec-length {padding}))", f"(!= 0 (+ (vec-get {padding} 0) (vec-get {padding} 1)))"),
    )  # fmt: skip


def offset_fits(w: Tensor, qw: QParams, scale: Number, z: Integer, q: QParams) -> Guard:
    """The offset is so small in steps of the output that its rounding to float32 moves next to no codes."""
    offset = f"(* {scale} (* (abs (to-f64 {z})) (largest-sum {qw} {w})))"
    return Guard(
        "offset-fits",
        "the offset must be small against float32's precision in steps of the output",
        (f"(<= {offset} (* {MAX_OFFSET!r} (step {q})))",),
        fix="a smaller zero point, or a larger output scale",
    )


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
        fix="average over an odd number of elements; otherwise it stays float",
    )


def channels_are(x: Tensor, c: Integer) -> Guard:
    """Binds c, the number of channels of the image x."""
    return Guard(
        "channels-are",
        f"{x} must be an image with a known number of channels",
        (f"(= 4 (rank {x}))", f"(= {c} (vec-get (shape {x}) 1))", f"(> {c} 0)"),
        (c,),
        fix="export with a number of channels that is fixed",
    )


def undoes(m: Move, n: Move) -> Guard:
    return Guard("undoes", f"{m} must put back what {n} permutes", (f"(inverse {m} {n})",))


def keeps_order(m: Move, s: Dims) -> Guard:
    """Binds s, the shape that the view or expansion m gives its operand."""
    return Guard("keeps-order", f"{m} must be a view or an expansion", (f"(keeps-order {m} {s})",), (s,))


def moves_out(x: Tensor, a: Number) -> Guard:
    """A later rounding of the product is no larger: in float32 by any measure, in bfloat16 where halving is exact."""
    return Guard("moves-out", "in half precision a factor that moves is another rounding", (f"(moves-out {x} {a})",))


def gates(f: UnaryFn, g: UnaryFn) -> Guard:
    """Binds g, the function that x f(x) is."""
    return Guard("gates", "x f(x) must have a name of its own", (f"(gates {f} {g})",), (g,))
