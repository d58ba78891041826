"""Elementwise functions, read into `unary(f, x)`, and the binary operators of decompositions and residuals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from qegraph import borders
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import add, clamp, div, fn, mul, named, scalar, unary
from qegraph.ops.quant import code_of
from qegraph.ops.table import Emission, Reading, means, one_pass, reads, val, word
from qegraph.program import Ref, Value
from qegraph.snapshot import Data, ENode
from qegraph.torch_names import aten

_PLAIN: dict[str, Any] = {
    "silu": aten.silu.default,
    "hardswish": aten.hardswish.default,
    "hardsigmoid": aten.hardsigmoid.default,
    "sigmoid": aten.sigmoid.default,
    "tanh": aten.tanh.default,
    "exp": aten.exp.default,
    "erf": aten.erf.default,
    "neg": aten.neg.default,
}


@reads(aten.relu.default)
def read_relu(reading: Reading, value: Value) -> Tensor | None:
    return clamped(reading, value.args[0], 0.0, None)


@reads(*_PLAIN.values())
def read_plain(reading: Reading, value: Value) -> Tensor | None:
    if not reading.dtype(value.args[0]).is_floating_point:
        return None
    name = next(name for name, target in _PLAIN.items() if target is value.target)
    return unary(named(name), reading.tensor(value.args[0]))


@reads(aten.gelu.default)
def read_gelu(reading: Reading, value: Value) -> Tensor:
    x, approximate = value.args
    return unary(named("gelu-tanh" if approximate == "tanh" else "gelu"), reading.tensor(x))


@reads(aten.leaky_relu.default)
def read_leaky_relu(reading: Reading, value: Value) -> Tensor:
    x, slope = value.args
    return unary(fn("leaky_relu", float(slope), 0.0), reading.tensor(x))


@reads(aten.relu6.default)
def read_relu6(reading: Reading, value: Value) -> Tensor | None:
    return clamped(reading, value.args[0], 0.0, 6.0)


@reads(aten.hardtanh.default, aten.clamp.default)
def read_clamp(reading: Reading, value: Value) -> Tensor | None:
    x, low, high = value.args
    return clamped(reading, x, low, high)


@reads(aten.clamp_min.default)
def read_clamp_min(reading: Reading, value: Value) -> Tensor | None:
    return clamped(reading, value.args[0], value.args[1], None)


@reads(aten.clamp_max.default)
def read_clamp_max(reading: Reading, value: Value) -> Tensor | None:
    return clamped(reading, value.args[0], None, value.args[1])


def clamped(reading: Reading, x: Any, low: Any, high: Any) -> Tensor | None:
    """clamp(x, low, high); max(x, 0) alone is relu. Bounds in the wrong order stay opaque."""
    if not reading.dtype(x).is_floating_point or any(isinstance(bound, Ref) for bound in (low, high)):
        return None
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not low <= high:
        return None
    return unary(clamp(low, high), reading.tensor(x))


def _binary(build: Callable[[Tensor, Tensor], Tensor], reading: Reading, x: Any, y: Any) -> Tensor | None:
    """Floats only; a Python number stands on the right, or on the left if it is there in the source."""
    if not all(reading.dtype(each).is_floating_point for each in (x, y) if isinstance(each, Ref)):
        return None
    if not all(isinstance(each, (Ref, int, float)) for each in (x, y)) or isinstance(x, bool) or isinstance(y, bool):
        return None
    return build(_operand(reading, x), _operand(reading, y))


def _operand(reading: Reading, x: Any) -> Tensor:
    return reading.tensor(x) if isinstance(x, Ref) else scalar(float(x))


@reads(aten.add.Tensor, aten.add.Scalar)
def read_add(reading: Reading, value: Value) -> Tensor | None:
    """alpha other than 1 stays opaque: no kernel multiplies its residual (D4)."""
    x, y, alpha = value.args
    return _binary(add, reading, x, y) if alpha == 1 else None


@reads(aten.mul.Tensor, aten.mul.Scalar)
def read_mul(reading: Reading, value: Value) -> Tensor | None:
    return _binary(mul, reading, *value.args)


@reads(aten.div.Tensor, aten.div.Scalar)
def read_div(reading: Reading, value: Value) -> Tensor | None:
    return _binary(div, reading, *value.args)


@reads(aten.pow.Tensor_Scalar)
def read_power(reading: Reading, value: Value) -> Tensor | None:
    """The cube is multiplied out, as the kernel does it: decompositions of gelu write either."""
    x, exponent = value.args
    base = reading.tensor(x)
    return mul(mul(base, base), base) if exponent == 3 and reading.dtype(x).is_floating_point else None


@word("Unary", one_pass)
def emit_unary(emission: Emission, node: ENode) -> fx.Node:
    f: Data = node.args[0]
    x = emission.node(node.args[1].number)
    if f.name == "ClampCodes":
        low, high, q = f.args
        return _emit_clamp_of_codes(emission, x, code_of(low, q), code_of(high, q))
    name, a, b = f.args
    if name == "clamp":
        return _emit_clamp(emission, node, x, a, b)
    if name in ("gelu", "gelu-tanh"):
        kwargs = {"approximate": "tanh" if name == "gelu-tanh" else "none"}
        return emission.call((aten.gelu.default, kwargs), x)
    if name == "leaky_relu":
        return emission.call(aten.leaky_relu.default, x, a)
    return emission.call(_PLAIN[name], x)


def _emit_clamp_of_codes(emission: Emission, x: fx.Node, low: int, high: int) -> fx.Node:
    """Among native kernels, which take most clamps in, nothing is called through torch's dispatcher."""
    return emission.call(aten.clamp.default if emission.kernels == "native" else borders.clamp, x, low, high)


def _emit_clamp(emission: Emission, node: ENode, x: fx.Node, low: float, high: float) -> fx.Node:
    codes = emission.snapshot.dtype.get(node.eclass) in ("uint8", "int8")
    if (low, high) == (0.0, math.inf) and not codes:
        return emission.call(aten.relu.default, x)
    if codes and not math.isinf(high - low):
        return _emit_clamp_of_codes(emission, x, int(low), int(high))
    convert = int if codes else float
    bounds = [None if math.isinf(bound) else convert(bound) for bound in (low, high)]
    return emission.call(aten.clamp.default, x, *bounds)


def _emit_binary(target: Any) -> Callable[[Emission, ENode], fx.Node]:
    def emit(emission: Emission, node: ENode) -> fx.Node:
        x, y = (emission.node(each.number) for each in node.args)
        return emission.call(target, x, y)

    return emit


for _name, _target in {"Add": aten.add.Tensor, "Mul": aten.mul.Tensor, "Div": aten.div.Tensor}.items():
    word(_name, one_pass)(_emit_binary(_target))


# -- meaning -----------------------------------------------------------------------------------------------------------


@means("Unary")
def applied(f: Data, x: Any) -> Any:
    if f.name == "ClampCodes":
        low, high, q = f.args
        return x.clamp(code_of(low, q), code_of(high, q))
    name, a, b = f.args
    if name == "identity":
        return x
    if name == "clamp":
        codes = not val(x).dtype.is_floating_point
        bounds = [int(each) if codes and not math.isinf(each) else each for each in (a, b)]
        return aten.clamp.default(x, *(None if math.isinf(each) else each for each in bounds))
    if name in ("gelu", "gelu-tanh"):
        return aten.gelu.default(x, approximate="tanh" if name == "gelu-tanh" else "none")
    return aten.leaky_relu.default(x, a) if name == "leaky_relu" else _PLAIN[name](x)


means("Add")(aten.add.Tensor)
means("Mul")(aten.mul.Tensor)
means("Div")(aten.div.Tensor)
