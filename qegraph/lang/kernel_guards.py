"""Guards of what the int8 kernels read, take in and store."""

from __future__ import annotations

from qegraph.lang.guards import is_constant
from qegraph.lang.rule import Guard
from qegraph.lang.terms import Kind, QParams, Tensor, Text, UnaryFn


def kernel_reads_activation(kind: Kind | str, x: Tensor, qx: QParams) -> tuple[Guard, ...]:
    """The activation is stored in a form the int8 kernel of this kind (or kind's name) reads, on this machine."""
    name = f"(kind-name {kind})" if isinstance(kind, Kind) else f'"{kind}"'
    return (
        Guard(
            "activation-params",
            "the kernel takes one scale and zero point for the activation",
            (f"(per-tensor {qx})",),
            fix="quantize the activation per tensor",
        ),
        Guard(
            "activation-scale",
            "the activation's scale must be positive and finite: a number, or chosen with a positive eps",
            (f"(positive {qx})",),
            fix="calibrate with data that isn't all one value; dynamically, choose the scale with a positive eps",
        ),
        Guard(
            "activation-dtype",
            "the kernel reads uint8 activations (linear: int8 too) (D11)",
            (f"(= (dtype {x}) (q-dtype {qx}))", f"(reads {name} (q-dtype {qx}))"),
            fix="quantize the activation to uint8 (for a linear, int8 will do)",
        ),
        Guard(
            "activation-exact-on-this-cpu",
            "without VNNI the kernel adds pairs in 16 bits and saturates for activations above 127",
            (f"(exact-here {x} {qx})",),
            fix="quantize activations to 0..127 (reduce_range), or run on a CPU with VNNI",
        ),
        not_empty(x),
    )


def not_empty(x: Tensor) -> Guard:
    return Guard(
        "not-empty",
        "the kernels give an empty batch another rank",
        (f"(not-empty {x})",),
        fix="leave out what computes nothing",
    )


def kernel_pads(kind: Kind, x: Tensor, qx: QParams, w: Tensor) -> tuple[Guard, ...]:
    """Found by proof: with a zero point and windows wholly in the padding, the kernel reads memory nobody wrote.

    Found by fuzzing: the others. See `qegraph.facts` for what the sizes of images and results must be.
    """
    return (
        Guard(
            "windows-touch",
            "with a zero point every window must touch the image: what the kernel computes for others is garbage",
            (f"(pads-well {kind} {qx} {w})",),
            fix="pad by less than the window, or quantize the activation with zero point 0",
        ),
        Guard(
            "steps-inside",
            "a dilated window must not step over the image, whose size must be known: the process dies (D35)",
            (f"(steps-inside {kind} {x} {w})",),
            fix="dilate by no more than the image's size; in three dims, not at all",
        ),
        Guard(
            "deep-enough",
            "a padded image in three dims must have a depth that is known and more than 1: what comes out is wrong",
            (f"(deep-enough {kind} {x})",),
            fix="use a convolution of two dims",
        ),
        Guard(
            "wide-enough",
            "the result of a strided convolution must be known to be wider than 1: a column comes out wrong (D36)",
            (f"(wide-enough {kind} {x} {w})",),
            fix="export with a fixed width, or move the narrow dim to another place",
        ),
    )


def weights_are(qx: QParams, dtype: Text | str) -> Guard:
    """The kernels that read activations stored like qx read weights of this dtype."""
    text = dtype if isinstance(dtype, Text) else f'"{dtype}"'
    return Guard(
        "weight-dtype",
        "the kernel reads int8 weights (float8 with float8 activations)",
        (f"(reads-weights (q-dtype {qx}) {text})",),
        fix="quantize the weight to int8 (with float8 activations, to float8_e4m3fn)",
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
            fix="store the weight in the dtype its parameters name",
        ),
        Guard(
            "weight-symmetric",
            "the kernel ignores weight zero points; they must all be 0 (D7)",
            (f"(symmetric {qw})",),
            fix="quantize the weight symmetrically, with zero point 0",
        ),
        Guard(
            "weight-axis",
            "weight scales must run along the output channels, axis 0 (D8)",
            (f"(along-outputs {qw})",),
            fix="quantize the weight along axis 0, its output channels, or per tensor",
        ),
        Guard(
            "weight-scales",
            "weight scales must be constant, float32, positive, one per output channel",
            (f"(scales-fit {qw} {w})",),
            fix="store positive scales as one float32 constant, one for each output channel",
        ),
        Guard(
            "accumulator-fits",
            "K * 255 * 128 must stay below 2^31, the int32 accumulator",
            (f"(accumulates {w})",),
            fix="split the sum into several products",
        ),
    )


def kernel_adds_bias(w: Tensor, b: Tensor) -> Guard:
    return Guard(
        "bias-fits",
        "the bias must be a float vector with one entry per output channel",
        (f"(bias-fits {b} {w})",),
        fix="give it a float bias of shape (output channels,), or none",
    )


def kernel_stores(qx: QParams, out: QParams) -> Guard:
    """What the kernels that read codes like qx can store, beside plain floats."""
    return Guard(
        "kernel-stores",
        "a kernel that reads float8 doesn't store integers, and the other way round",
        (f"(= (family {qx}) (family {out}))",),
        fix="store codes of the same family as the activation's, or floats",
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
        fix="use one of the post-ops and storages the table has; the rest stays a kernel of its own",
    )


def stored_like(y: Tensor, q: QParams) -> Guard:
    return Guard(
        "stored-like",
        "a residual read as codes must have the output's dtype",
        (f"(= (dtype {y}) (q-dtype {q}))",),
        fix="quantize the residual to the dtype of the output",
    )


def saturates_at_zero(q: QParams) -> Guard:
    """The lowest code stands for 0, so that quantizing is itself a relu."""
    return Guard(
        "saturates-at-zero",
        "the lowest code must stand for 0",
        (f"(saturates-at-zero {q})",),
        fix="quantize what a relu gives with its zero point at quant_min",
    )


def kernel_present(name: str) -> Guard:
    """The installed torch has this kernel; see `qegraph.kernels.OPTIONAL`."""
    return Guard(
        "kernel-present",
        f"this torch has no {name} for this CPU",
        (f'(present "{name}")',),
        fix="run on a CPU, and with a torch, that has it",
    )


def kernel_normalizes(
    x: Tensor, qx: QParams, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Guard, ...]:
    """The batch-norm kernel reads uint8 images and float32 statistics."""
    floats = " ".join(f'(= (dtype {each}) "float32")' for each in (w, b, mean, variance))
    return (
        kernel_present("qbatch_norm2d"),
        Guard(
            "norm-operand",
            "the batch-norm kernel reads rank-4 uint8 codes with one scale",
            (
                f'(= (dtype {x}) "uint8")',
                f'(= (q-dtype {qx}) "uint8")',
                f'(= "codes" (storage {qx}))',
                f"(= 4 (rank {x}))",
            ),
            fix="quantize the image to uint8 with one scale, or fold the norm into the convolution before it",
        ),
        not_empty(x),
        Guard(
            "norm-statistics",
            "the batch-norm kernel reads float32 weight, bias, mean and variance",
            (floats,),
            fix="keep weight, bias, mean and variance in float32",
        ),
    )


def kernel_stores_norm(q: QParams) -> Guard:
    return Guard(
        "stores-uint8",
        "the batch-norm kernel stores uint8",
        (f'(= (q-dtype {q}) "uint8")',),
        fix="quantize what the norm gives to uint8",
    )
