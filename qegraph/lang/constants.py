"""Words for constants of our own: computed from other constants when the graph is emitted, never when it runs."""

from __future__ import annotations

from qegraph.lang.terms import Dims, Integer, Number, QParams, Tensor, Text, constructor


@constructor("Filled")
def filled(shape: Dims, value: Integer | int, dtype: Text | str) -> Tensor:
    """A constant of our own: `value` everywhere."""
    raise NotImplementedError


@constructor("Joined")
def joined(x: Tensor, y: Tensor, n: Integer | int, m: Integer | int) -> Tensor:
    """A constant of our own: x with its n entries along dim 0, then y with its m. `nothing()` stands for zeros."""
    raise NotImplementedError


@constructor("JoinedParams")
def joined_params(q: QParams, p: QParams, n: Integer | int, m: Integer | int) -> QParams:
    """q for the first n entries along dim 0, p for the m after them. Weights only."""
    raise NotImplementedError


@constructor("Cut")
def cut(x: Tensor, start: Integer | int, length: Integer | int) -> Tensor:
    """The constant x[start : start + length]; a cut of `nothing()` is nothing."""
    raise NotImplementedError


@constructor("CutParams")
def cut_params(q: QParams, start: Integer | int, length: Integer | int) -> QParams:
    """q for the entries start to start + length along dim 0. Weights only."""
    raise NotImplementedError


@constructor("OffsetBias")
def offset_bias(b: Tensor, w: Tensor, qw: QParams, scale: Number | float, zero_point: Integer | int) -> Tensor:
    """The constant b - scale * zero_point * s_w[n] * sum(w[n]): what a zero point of the activation adds, taken off."""
    raise NotImplementedError


@constructor("Scaled")
def scaled(q: QParams, c: Tensor) -> QParams:
    """q with its scales multiplied by the constant c: one number, or one for each output channel."""
    raise NotImplementedError


@constructor("Product")
def product(x: Tensor, c: Tensor) -> Tensor:
    """x * c over the output channels, for constants; `nothing()` times anything is nothing."""
    raise NotImplementedError


@constructor("Total")
def total(x: Tensor, c: Tensor) -> Tensor:
    """x + c over the output channels, for constants; x may be `nothing()`, which adds nothing."""
    raise NotImplementedError


@constructor("NormFactor")
def norm_factor(w: Tensor, variance: Tensor, eps: Number | float) -> Tensor:
    """w / sqrt(variance + eps) : what a batch normalization multiplies by."""
    raise NotImplementedError


@constructor("NormShift")
def norm_shift(b: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """b - mean * factor : what a batch normalization then adds."""
    raise NotImplementedError
