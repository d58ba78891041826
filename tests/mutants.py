"""Unsound variants of shipped rules, by what is wrong with them: every one must be refuted.

No rule can count the users of a value, so there is no "ignored second user": the nearest are joined linears whose parts
are swapped or overlap. `alpha` is a factor of an operand of `add` by the time rules see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mutants_written as written

from qegraph.lang.guards import stores_bytes
from qegraph.lang.rule import Equality, Guard, Rule
from qegraph.lang.terms import Dims, Expr, Integer, Number, QParams, Tensor, Text, subterms, text_of
from qegraph.lang.vocabulary import (
    absent,
    clamp,
    cut,
    cut_params,
    filled,
    identity,
    joined,
    joined_params,
    named,
    norm_factor,
    nothing,
    offset_bias,
    pad_codes,
    relu,
    vec,
)  # fmt: skip
from qegraph.load_rules import by_name

OFF = "off by|codes are wrong"
"""What is said of values that differ."""
FAILS = "can't be built|raises"
"""What is said of a right side that no operator computes."""
SHAPE = "left is .*, right|have different (shape|dtype)s"
"""What is said of sides of two shapes or dtypes."""


@dataclass(frozen=True)
class Mutant:
    """of: the shipped rule it is a variant of. reason: a pattern that its refutation must match."""

    rule: Rule
    of: str
    reason: str


def without(name: str, of: str, guard: str, reason: str = OFF, instead: tuple[Guard, ...] = ()) -> Mutant:
    """The rule without its guards of this name, or with this text among their facts; with a weaker one instead."""
    rule = by_name(of)
    kept = tuple(each for each in rule.guards if guard != each.name and guard not in each.facts)
    assert len(kept) < len(rule.guards), f"{of} has no guard {guard}"
    return Mutant(replace(rule, name=name, guards=(*kept, *instead)), of, reason)


def changed(name: str, of: str, terms: Mapping[str, Any], reason: str = OFF) -> Mutant:
    """The rule with sub-terms of its right sides, by their text, replaced by other ones."""
    rule = by_name(of)
    equalities = tuple(Equality(each.lhs, _replaced(each.rhs, terms)) for each in rule.equalities)
    assert str(equalities) != str(rule.equalities), f"{of} has no {' or '.join(terms)} on its right"
    return Mutant(replace(rule, name=name, equalities=equalities), of, reason)


def skipped(name: str, of: str, word: str, reason: str = OFF) -> Mutant:
    """The rule with the last operand of this word instead of it on its right side."""
    rule = by_name(of)
    terms = {str(t): t.operands[-1] for each in rule.equalities for t in subterms(each.rhs) if t.head == word}
    return changed(name, of, terms, reason)


def own(rule: Rule, of: str, reason: str = OFF) -> Mutant:
    """One that is written out."""
    return Mutant(rule, by_name(of).name, reason)


def _replaced(term: Any, terms: Mapping[str, Any]) -> Any:
    if text_of(term) in terms:
        return terms[text_of(term)]
    if not isinstance(term, Expr) or term.is_variable:
        return term
    return type(term)(term.head, tuple(_replaced(each, terms) for each in term.operands))


def tensor(name: str) -> Tensor:
    return Tensor(name)


def params(name: str) -> QParams:
    return QParams(name)


def plus(name: str, amount: int) -> Integer:
    return Integer.of("+", Integer(name), amount)


def as_float(name: str) -> Number:
    return Number.of("to-f64", Integer(name))


BYTES = (stores_bytes(params("q")),)
JOINED_PARAMS = "(JoinedParams qw qv n m)"
BIAS, WEIGHT, VARIANCE, MEAN = map(tensor, ("b", "w", "v", "m"))

MUTANTS: Mapping[str, tuple[Mutant, ...]] = {
    "post-op or operand dropped": (
        changed("bias-dropped", "gemm-int8", {"b": nothing()}),
        changed("post-op-dropped", "post-op", {"f": identity()}),
        changed("residual-dropped-by-post-op", "post-op", {"o": nothing(), "qo": absent()}),
        changed("residual-dropped", "residual", {"y": nothing(), "(Real d)": absent()}),
        changed("post-op-dropped-by-requantize", "requantize", {"f": identity()}),
        changed("residual-dropped-by-requantize", "requantize-residual", {"y": nothing(), "qy": absent()}),
        skipped("post-op-dropped-in-half", "post-op-of-cast", "Unary"),
        changed("post-op-dropped-by-store", "store-half", {"f": identity()}),
        changed("half-bias-dropped", "linear-fp16", {"b": nothing()}),
        changed("half-relu-dropped", "linear-fp16-relu", {text_of(relu()): identity()}),
        changed("mask-dropped", "mask-of-softmax", {"m": nothing()}),
        changed("view-drops-bias", "linear-through-view", {"b": nothing()}),
        skipped("clamp-dropped", "narrow-range", "Unary"),
        own(written.relu_before_residual, "residual"),
        own(written.quantize_is_relu, "relu-of-batch-norm"),
    ),
    "alpha ignored": (
        own(written.alpha_ignored, "residual"),
        changed("factor-dropped", "scaled-dequantize", {"(* s c)": Number("s")}),
        changed("scale-of-scores-dropped", "scale-of-softmax", {"c": 1.0}),
        own(written.mask_scaled_too, "scale-of-softmax"),
    ),
    "zero point off": (
        changed("flip-moves-by-127", "conv-of-int8", {"(+ z 128)": plus("z", 127)}),
        skipped("codes-not-flipped", "conv-of-int8", "Flip", SHAPE),
        changed("flip-keeps-zero-point", "conv-of-int8", {"(+ z 128)": Integer("z")}),
        changed("flipped-codes-off-by-one", "flip-of-quantize", {"(+ z 128)": plus("z", 127)}),
        changed(
            "offset-off-by-one",
            "zero-point-into-bias",
            {"(OffsetBias b w qw s z)": offset_bias(BIAS, WEIGHT, params("qw"), Number("s"), plus("z", 1))},
        ),
        changed("offset-forgotten", "zero-point-into-bias", {"(OffsetBias b w qw s z)": BIAS}),
        changed("integer-zero-point-ignored", "integer-product-int8", {"z": 0}),
        changed(
            "dynamic-zero-point-ignored",
            "scale-of-activation",
            {text_of(filled(vec(1), Integer("z"), "int32")): filled(vec(1), 0, "int32")},
        ),
        without("weight-zero-point-ignored", "gemm-int8", "weight-symmetric"),
    ),
    "swapped or wrong scale": (
        changed(
            "norm-of-twice-the-value",
            "batch-norm-is-depthwise",
            {'(Filled (vec-of c 1 1 1) 1 "int8")': filled(vec(Integer("c"), 1, 1, 1), 2, "int8")},
        ),
        changed("scales-swapped", "gemm-int8", {"qx": params("qw"), "qw": params("qx")}, f"{OFF}|{FAILS}"),
        changed("residual-read-by-output-scale", "requantize-residual", {"qy": params("q")}),
        changed("scale-multiplied", "scaled-quantize", {"(/ s c)": Number.of("*", Number("s"), Number("c"))}),
        changed("window-is-a-row", "average-pool-int8", {"(* h w)": Integer("h")}),
        changed(
            "scales-of-first-linear",
            "two-linears-as-one",
            {JOINED_PARAMS: joined_params(params("qw"), params("qw"), Integer("n"), Integer("m"))},
            f"{OFF}|{FAILS}",
        ),
        changed("scales-not-cut", "part-as-linear", {"(CutParams qw s n)": cut_params(params("qw"), 0, Integer("n"))}),
        changed("bias-not-scaled", "factor-of-output", {"(Product b c)": BIAS}),
        changed("scales-not-scaled", "factor-of-output", {"(Scaled qw c)": params("qw")}),
        changed("bias-not-normalized", "norm-of-output", {"(Product b (NormFactor g v e))": BIAS}),
        changed("mean-forgotten", "norm-of-output", {"(NormShift h m (NormFactor g v e))": tensor("h")}),
        changed("eps-forgotten", "norm-of-output", {"(NormFactor g v e)": norm_factor(tensor("g"), VARIANCE, 0.0)}),
        changed("weight-and-bias-swapped", "batch-norm-int8", {"w": BIAS, "b": WEIGHT}),
        changed("factor-not-inverted", "division-by-constant", {"(/ 1.0 c)": Number("c")}),
        own(written.other_params_survive, "codes-survive"),
        own(written.params_of_first_for_both, "dequantize-through-cat"),
    ),
    "parts swapped or overlapping": (
        changed("parts-overlap", "two-linears-as-one", {"r": 0}, f"{OFF}|{FAILS}|{SHAPE}"),
        changed(
            "weights-swapped",
            "two-linears-as-one",
            {"(Joined w v n m)": joined(tensor("v"), WEIGHT, Integer("m"), Integer("n"))},
            f"{OFF}|{FAILS}|{SHAPE}",
        ),
        changed(
            "biases-swapped",
            "two-linears-as-one",
            {"(Joined b c r t)": joined(tensor("c"), BIAS, Integer("t"), Integer("r"))},
        ),
        changed("weight-cut-at-start", "part-as-linear", {"(Cut w s n)": cut(WEIGHT, 0, Integer("n"))}),
        changed("bias-cut-at-start", "part-as-linear", {"(Cut b s n)": cut(BIAS, 0, Integer("n"))}),
    ),
    "wrong axis": (
        without("scales-along-inputs", "gemm-int8", "weight-axis", f"{OFF}|{FAILS}"),
        without("columns-as-scales", "weight-only-int8", "scale-per-output", f"{OFF}|{FAILS}|{SHAPE}"),
        own(written.scale_along_inputs, "scale-of-weight"),
        changed("axis-stays", "channels-through-permute", {"b": Integer("a")}, f"{OFF}|{FAILS}"),
        without("first-dim-regrouped", "channels-through-view", "keeps-first-dim", f"{OFF}|{FAILS}"),
        without("channels-move", "quantize-through-move", "per-tensor-params", f"{OFF}|{FAILS}"),
        without("channels-move-as-codes", "dequantize-through-move", "per-tensor-params", f"{OFF}|{FAILS}"),
        without("channels-joined", "quantize-through-cat", "per-tensor-params", f"{OFF}|{FAILS}"),
        without("channels-joined-as-codes", "dequantize-through-cat", "per-tensor-params", f"{OFF}|{FAILS}"),
        without("norm-of-last-dim", "norm-of-output", "channels-at-1", f"{OFF}|{FAILS}|{SHAPE}"),
        without("any-dim-is-outputs", "factor-of-output", "per-output", f"{OFF}|{FAILS}|{SHAPE}"),
        without("bias-of-any-dim", "bias-of-output", "per-output", f"{OFF}|{FAILS}|{SHAPE}"),
        without("regrouped-last-dim", "linear-through-view", "keeps-last-dim", f"{OFF}|{FAILS}|{SHAPE}"),
        without("factor-of-regrouped-dim", "factor-through-view", "keeps-last-dim", f"{OFF}|{FAILS}|{SHAPE}"),
        without("bias-of-regrouped-dim", "bias-through-view", "keeps-last-dim", f"{OFF}|{FAILS}|{SHAPE}"),
        without("any-permutation-undoes", "permute-back", "undoes", f"{OFF}|{SHAPE}"),
        own(written.any_move_that_keeps_shape, "same-shape-again"),
        own(written.matrix_not_transposed, "matmul-is-linear", f"{OFF}|{FAILS}|{SHAPE}"),
        own(written.linear_through_any_move, "linear-through-view", f"{OFF}|{FAILS}|{SHAPE}"),
        own(written.moves_swapped, "view-of-view", f"{OFF}|{FAILS}|{SHAPE}"),
    ),
    "wrong broadcast": (
        without("residual-of-another-shape", "residual", "product-shape", f"{OFF}|{FAILS}|{SHAPE}"),
        without("product-is-broadcast", "residual-broadcast", "result-shape", f"{FAILS}|{SHAPE}"),
        without("residual-viewed-as-product", "residual-through-view", "(= v (shape y))", f"{OFF}|{FAILS}|{SHAPE}"),
        without("factor-broadcasts-product", "factor-of-output", "keeps-shape", f"{OFF}|{FAILS}|{SHAPE}"),
        without("bias-broadcasts-product", "bias-of-output", "keeps-shape", f"{OFF}|{FAILS}|{SHAPE}"),
        without("product-is-spread", "factor-is-broadcast", "same-shape", SHAPE),
        without("many-activation-scales", "scale-of-activation", "one-element", f"{OFF}|{FAILS}|{SHAPE}"),
        without("rounding-broadcast", "factor-before-rounding", "has-dtype", f"{OFF}|{SHAPE}"),
        without("bias-of-any-shape", "bias-of-linear", "is-vector", f"{OFF}|{FAILS}|{SHAPE}"),
        without("mask-of-any-shape", "mask-of-softmax", "keeps-shape", f"{OFF}|{FAILS}|{SHAPE}"),
        without("bias-of-another-length", "gemm-int8", "bias-fits", f"{OFF}|{FAILS}"),
    ),
    "range guard missing": (
        without("narrow-range-requantized", "requantize", "spans-dtype", instead=BYTES),
        without("narrow-range-of-residual", "requantize-residual", "spans-dtype", instead=BYTES),
        without("narrow-range-normalized", "requantize-batch-norm", "spans-dtype"),
        without("codes-outside-range-survive", "codes-survive", "spans-dtype"),
        without("relu-of-codes-outside-range", "relu-of-codes", "spans-dtype"),
        without("relu-at-zero-point-outside-range", "relu-of-codes", "is-code"),
        changed("ranges-apart", "clamp-of-clamp", {"(max (min b d) c)": Number.of("min", Number("b"), Number("d"))}),
        without("sum-overflows", "gemm-int8", "accumulator-fits"),
        without("offset-swallows-result", "zero-point-into-bias", "offset-fits"),
        without("wide-codes-clamped", "quantize-through-clamp", "stores-bytes", f"{OFF}|{FAILS}"),
        without("infinite-weight-in-half", "linear-fp16", "is-finite"),
    ),
    "scale of the wrong sign": (
        without("maximum-of-negative-scale", "quantize-through-max-pool", "positive-scale"),
        without("maximum-of-negative-codes", "dequantize-through-max-pool", "positive-scale"),
        without("bounds-of-negative-scale", "quantize-through-clamp", "positive-scale"),
        without("relu-of-negative-scale", "relu-of-codes", "positive-scale"),
        without("saturated-by-negative-scale", "relu-of-batch-norm", "positive-scale"),
    ),
    "padding with the wrong value": (
        changed("codes-padded-with-0", "quantize-through-pad", {"(to-f64 z)": 0.0}),
        changed("dequantized-padding-of-0", "dequantize-through-pad", {"(to-f64 z)": 0.0}),
        changed(
            "image-padded-with-0", "padding-of-codes", {"(PadCodes x pd z)": pad_codes(tensor("x"), Dims("pd"), 0)}
        ),
        without("padded-with-no-code", "quantize-through-pad", "is-code", f"{OFF}|{FAILS}"),
        without("dequantized-padding-of-no-code", "dequantize-through-pad", "is-code", f"{OFF}|{FAILS}"),
        without("offset-in-padding", "zero-point-into-bias", "is-unpadded"),
        without("windows-in-the-padding", "gemm-int8", "windows-touch"),
        own(written.any_padding_is_zero_point, "dequantize-through-pad"),
    ),
    "saturates at the wrong edge": (
        changed("highest-code-not-clamped", "narrow-range", {"(to-f64 (- hi z))": as_float("h0")}),
        changed("lowest-code-not-clamped", "narrow-range", {"(to-f64 (- lo z))": as_float("l0")}),
        changed(
            "bounds-not-rounded",
            "quantize-through-clamp",
            {"(ClampCodes a b q)": clamp(Number("a"), Number("b"))},
            f"{OFF}|{FAILS}",
        ),
        changed("upper-bound-of-first-clamp", "clamp-of-clamp", {"(min b d)": Number("b")}),
        without("lowest-code-is-relu", "relu-of-batch-norm", "saturates-at-zero"),
        own(written.quantize_is_relu_at_highest_code, "relu-of-batch-norm"),
        own(written.bound_at_wrong_edge, "relu-of-codes"),
    ),
    "no such kernel": (
        without("residual-of-another-dtype", "requantize-residual", "stored-like", f"{OFF}|{FAILS}"),
        without("empty-batch", "gemm-int8", "not-empty", f"{FAILS}|{SHAPE}"),
        without("any-activation-dtype", "gemm-int8", "activation-dtype", f"{OFF}|{FAILS}"),
        without("any-weight-dtype", "gemm-int8", "weight-dtype", f"{OFF}|{FAILS}"),
        without("signed-image-normalized", "batch-norm-int8", "norm-operand", f"{OFF}|{FAILS}"),
        without("signed-result-normalized", "requantize-batch-norm", "stores-uint8", f"{OFF}|{FAILS}"),
        own(written.groups_ignored, "conv-1x1-is-linear", f"{FAILS}|{SHAPE}"),
        own(written.stride_ignored, "conv-1x1-is-linear", f"{FAILS}|{SHAPE}"),
    ),
    "another function": (
        changed("gate-is-always-silu", "gate-of-itself", {"g": named("silu")}),
        changed("silu-is-hardswish", "silu-of-exp", {text_of(named("silu")): named("hardswish")}),
        changed("gelu-is-its-approximation", "gelu-of-erf", {text_of(named("gelu")): named("gelu-tanh")}),
        without("any-offset-is-silu", "silu-of-exp", "close"),
        without("any-cubic-is-gelu", "gelu-of-tanh", "close"),
        without("any-factor-is-gelu", "gelu-of-erf", "close"),
        without("any-bound-is-hardswish", "hardswish-of-clamp", "is-zero"),
        without("any-factor-is-hardswish", "hardswish-of-clamp", "close"),
    ),
    "another dtype": (
        changed("dtype-of-first-cast", "cast-of-cast", {"e": Text("d")}, SHAPE),
        changed("dtype-of-half", "cast-of-half", {"e": Text("d")}, SHAPE),
        changed("dtype-of-product", "residual-of-cast", {"e": Text("d")}, SHAPE),
        without("any-dtype-is-its-own", "cast-to-own-dtype", "has-dtype", SHAPE),
        without("bias-of-another-dtype", "bias-of-linear", "same-dtype", f"{OFF}|{FAILS}|{SHAPE}"),
        without("factor-rounded-twice", "factor-moves-out", "moves-out"),
    ),
}
"""Kind of mistake -> rules that make it."""

CRASHES = without("depth-past-the-end", "weight-only-int8", "weight-only-fits", "took its process down")
"""Its kernel reads past the end of the weight."""
