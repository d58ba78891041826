"""How the operands of each word are chosen: codes, elementwise functions, rearrangements, the rarer operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from qegraph.kernels import FLOATS, optional_kernels
from qegraph.lang.terms import Expr, Tensor, UnaryFn
from qegraph.lang.vocabulary import expand, fn, nothing, permute, scalar, vec, view
from qegraph.prove.moves import stretch
from qegraph.prove.params import params, stored_as
from qegraph.prove.sampler import ANY, Reject, Sampler, Shape, Want, grows
from qegraph.torch_names import dtype_name

FUNCTIONS = (
    "clamp",
    "clamp",
    "relu",
    "gelu",
    "gelu-tanh",
    "silu",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "leaky_relu",
)
_BOUNDS = ((0.0, 6.0), (2.0, 5.0), (-1.0, 1.0), (-0.5, math.inf), (-math.inf, 0.7), (0.1, 0.4))


def shape_of(s: Sampler, term: Expr) -> Shape:
    value = s.value(term)
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


# -- codes -------------------------------------------------------------------------------------------------------------


@grows("Quantize")
def quantize(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], Want(want.shape, "float32", want.role))
    value = s.value(x)
    return x, params(s, args[1], want.role or "output", want.dtype, shape_of(s, x), value)


@grows("Dequantize")
def dequantize(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    dtype = s.dtype(args[2], want.dtype)
    operand = s.known(args[0])
    if operand is None and not args[0].is_variable and args[0].head != "Leaf":
        x = s.tensor(args[0], Want(want.shape, None, want.role))
        operand = s.value(x)
    shape = want.shape if operand is None else tuple(operand.shape)
    shape = s.shape(s.hints.rank.get(args[0].head) if args[0].is_variable else None) if shape is None else shape
    codes = None if operand is None else dtype_name(operand.dtype)
    q = params(s, args[1], want.role or "activation", codes, shape)
    return s.tensor(args[0], Want(shape, stored_as(q), want.role)), q, dtype


@grows("Flip")
def flip(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    other = {"uint8": "int8", "int8": "uint8"}
    return (s.tensor(args[0], Want(want.shape, other[want.dtype] if want.dtype else s.pick("int8", "uint8"))),)


@grows("Cast")
def cast(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    dtype = s.dtype(args[1], want.dtype)
    source: str | None = None
    if args[0].is_variable and args[0].head not in s.hints.dtype.keys() | s.hints.accumulator:
        source = "int8" if want.role == "weight" else s.pick("float32", *FLOATS)
    x = s.tensor(args[0], Want(want.shape, source, want.role))
    index = x.operands[0] if x.head == "Leaf" else -1
    if s.value(x).dtype == torch.float16 and index in s.leaves and s.leaves[index].constant and s.odd("is-finite"):
        s.value(x).view(-1)[:1] = math.inf
    return x, dtype


# -- elementwise -------------------------------------------------------------------------------------------------------


def function(s: Sampler, pattern: Any, names: Sequence[str] = FUNCTIONS) -> UnaryFn:
    """One of these functions; `clamp` stands for those with an upper bound."""
    if pattern.is_variable:
        if pattern.head not in s.bound:
            s.bound[pattern.head] = _function(s, s.pick(*names))
        return s.bound[pattern.head]
    name, a, b = pattern.args
    if name == "clamp" and isinstance(a, Expr) and a.is_variable and a.head not in s.bound:
        s.bound[a.head], high = s.pick(*_BOUNDS, (0.0, math.inf))
        if isinstance(b, Expr) and b.is_variable and b.head not in s.hints.near:
            s.bound.setdefault(b.head, high)
    low, high = s.number(a), s.number(b)
    if name == "clamp" and low > high:
        raise Reject("bounds in the wrong order are read as nothing we know")
    return fn(name, low, high)


def _function(s: Sampler, name: str) -> UnaryFn:
    if name == "relu":
        return fn("clamp", 0.0, math.inf)
    if name == "clamp":
        return fn("clamp", *s.pick(*_BOUNDS))
    return fn(name, s.pick(0.01, 0.3) if name == "leaky_relu" else 0.0, 0.0)


@grows("Unary")
def unary(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[1], want if want.dtype else Want(want.shape, None, want.role))
    if not s.value(x).dtype.is_floating_point:
        raise Reject("functions of codes occur in no source")
    return function(s, args[0]), x


@grows("Add", "Mul", "Div")
def binary(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    """The second operand has the first one's shape, or is broadcast to it, or it to the second."""
    first, second = args
    if second.head == "Scalar":
        return s.tensor(first, want), scalar(s.number(second.args[0]))
    swapped = s.known(first) is None and s.known(second) is not None
    one, other = (second, first) if swapped else (first, second)
    x = s.tensor(one, Want(None if s.known(one) is not None else want.shape, want.dtype, want.role))
    value = s.value(x)
    dtype = None if s.odd("same-dtype") else dtype_name(value.dtype)
    shape = None if s.known(other) is not None else _beside(s, tuple(value.shape), other)
    y = s.tensor(other, Want(shape, None if s.known(other) is not None else dtype))
    return (y, x) if swapped else (x, y)


def _beside(s: Sampler, shape: Shape, pattern: Any) -> Shape | None:
    """A shape that broadcasts with this one."""
    if not pattern.is_variable:
        return shape if s.chance(0.85) else _spread(s, shape)
    if shape and pattern.head in s.hints.vector and s.chance(0.8):
        over = s.known(Tensor(s.hints.last.get(s.hints.vector[pattern.head], "")))
        return shape[-1:] if over is None or s.chance(0.8) else tuple(over.shape[-1:])
    if len(shape) == 2 and pattern.head in s.hints.column and s.chance(0.8):
        return (shape[0], 1)
    if shape and pattern.head in s.hints.row and s.chance(0.8):
        return (*shape[:-1], 1)
    options: list[Shape] = [shape] * 4
    if shape:
        options += [shape[-1:]] * 3 + [(*shape[:-1], 1), (1, *shape), (2, *shape), (1,)]
        options.append(tuple(1 if s.chance(0.5) else d for d in shape))
        options.append(_spread(s, shape))
    if len(shape) > 2:
        options += [(shape[1], *[1] * (len(shape) - 2)), (1, shape[1], *[1] * (len(shape) - 2))] * 2
    if len(shape) == 2:
        options.append((1, shape[1]))
    if pattern.head in s.hints.single:
        options = [(1,), (), (1, 1)]
    return s.pick(*options)


def _spread(s: Sampler, shape: Shape) -> Shape:
    """One that this one broadcasts to."""
    return tuple(s.size() if d == 1 else d for d in s.pick(shape, shape, (2, *shape)))


# -- rearrangements ----------------------------------------------------------------------------------------------------


@grows("Moved")
def moved(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    m, x = args
    if m.is_variable and m.head in s.bound:
        m = s.bound[m.head]
    fixed = _fixed(s, m)
    if fixed is not None:
        return fixed, s.tensor(x, Want(_operand_shape(s, fixed, want), want.dtype, want.role))
    shape = None
    if want.shape is not None and s.known(x) is None:
        shape = s.regrouped(want.shape) if m.is_variable or m.head == "View" else _unspread(s, want.shape)
    operand = s.tensor(x, Want(shape, want.dtype, want.role))
    value = s.value(operand)
    back = _back(s, m, operand)
    made = back if back is not None else _free(s, m, () if value is None else tuple(value.shape), want.shape)
    if m.is_variable:
        s.bound[m.head] = made
    elif m.head in ("View", "Permute", "Expand"):
        s.bound[m.args[0].head] = made.operands[0]
    return made, operand


def _back(s: Sampler, m: Any, operand: Any) -> Any:
    """At times what puts back what the operand itself permutes."""
    inner = operand.args[0] if operand.head == "Moved" else None
    if inner is None or inner.head != "Permute" or not (m.is_variable or m.head == "Permute") or s.chance(0.5):
        return None
    order = s.value(inner).args[0]
    return permute(vec(*(order.index(i) for i in range(len(order)))))


def _unspread(s: Sampler, shape: Shape) -> Shape:
    """A shape that expands to this one."""
    return tuple(1 if s.chance(0.4) else d for d in shape)


def _fixed(s: Sampler, m: Any) -> Any:
    """The move, if nothing of it is left to choose."""
    if m.is_variable:
        return None
    dims = next(iter(m.operands), None)
    if isinstance(dims, Expr) and dims.is_variable:
        return type(m)(m.head, (s.bound[dims.head],)) if dims.head in s.bound else None
    return m


def _operand_shape(s: Sampler, m: Any, want: Want) -> Shape | None:
    dims = s.value(m).args[0]
    if m.head == "Permute":
        if want.shape is None:
            return s.shape(len(dims))
        if len(want.shape) != len(dims):
            raise Reject("a permutation of another rank")
        return tuple(want.shape[dims.index(i)] for i in range(len(dims)))
    return s.regrouped(tuple(dims)) if m.head == "View" else None


def _free(s: Sampler, m: Any, shape: Shape, wanted: Shape | None) -> Any:
    if wanted is not None:
        if m.is_variable or m.head == "View":
            return view(vec(*wanted))
        return expand(vec(*wanted))
    if m.is_variable and m.head in s.hints.stretch and shape and s.chance(0.8):
        return stretch(s, shape)
    if m.is_variable:
        return s.rearrangement(shape)
    if m.head == "View":
        return view(vec(*s.regrouped(shape)))
    if m.head == "Permute":
        return permute(vec(*s.random.sample(range(len(shape)), len(shape))))
    return expand(vec(*(s.pick(2, 3) if d == 1 else d for d in s.pick(shape, (1, *shape)))))


@grows("Pad")
def pad(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], Want(None, want.dtype, want.role))
    rank = s.value(x).dim()
    if not rank:
        raise Reject("nothing to pad")
    amounts = s.plain(args[1], lambda: vec(*(s.pick(0, 1, 2) for _ in range(2 * s.random.randint(1, min(2, rank))))))
    return x, amounts, s.number(args[2])


@grows("Cat")
def cat(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], Want(None, want.dtype, want.role))
    shape = shape_of(s, x)
    if not shape:
        raise Reject("nothing to join along")
    dim = s.plain(args[2], lambda: s.random.randrange(len(shape)))
    if s.known(args[1]) is not None:
        return x, s.tensor(args[1], ANY), dim
    other = shape if s.chance(0.3) else (*shape[:dim], s.size(), *shape[dim + 1 :])
    return x, s.tensor(args[1], Want(other, dtype_name(s.value(x).dtype), want.role)), dim


def _image(s: Sampler) -> Shape:
    batch = 0 if s.is_empty() else s.pick(1, 2)
    return (batch, s.pick(1, 2, 3, 8), s.pick(3, 4, 5, 7), s.pick(3, 4, 6))


@grows("MaxPool", "AvgPool")
def pool(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], Want(_image(s), want.dtype if want.dtype else None, want.role))
    side = s.pick(1, 2, 3)
    kernel = s.plain(args[1], lambda: vec(side, s.pick(side, 1)))
    rest = [s.plain(args[2], lambda: s.pick(vec(1, 1), vec(2, 2)))]
    rest.append(s.plain(args[3], lambda: vec(0, 0) if side == 1 else s.pick(vec(0, 0), vec(side // 2, 0))))
    if len(args) > 4:
        rest += [
            s.plain(args[4], lambda: s.pick(vec(1, 1), vec(1, 1), vec(2, 1))),
            s.plain(args[5], lambda: s.pick(0, 0, 1)),
        ]
    return x, kernel, *rest


# -- the rarer ones ----------------------------------------------------------------------------------------------------


def optional(s: Sampler, pattern: Any, want: Want, often: float) -> Any:
    """The operand, or nothing: with a probability of 1 - often where it is free."""
    if pattern.head == "Nothing":
        return nothing()
    if pattern.is_variable and pattern.head not in s.bound and not s.chance(often):
        s.bound[pattern.head] = nothing()
    return s.tensor(pattern, want)


@grows("BatchNorm")
def batch_norm(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], want if want.dtype else Want(want.shape, "float32" if args[0].is_variable else None))
    return x, *statistics(s, args[1:5], shape_of(s, x)), s.plain(args[5], lambda: s.pick(1e-5, 1e-3))


def statistics(s: Sampler, args: Sequence[Any], shape: Shape, often: float = 0.85) -> tuple[Any, ...]:
    """often  a weight, and a bias, is there."""
    if len(shape) < 2:
        raise Reject("no channels to normalize")
    per_channel = Want((shape[1],), "float32", "statistic")
    *plain, variance = args
    w, b = (optional(s, each, per_channel, often) for each in plain[:2])
    return w, b, s.tensor(plain[2], per_channel), s.tensor(variance, Want((shape[1],), "float32", "variance"))


@grows("QBatchNorm")
def qbatch_norm(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    here(s, "qbatch_norm2d")
    qx = params(s, args[1], "activation", "uint8")
    image = _image(s)
    if 0 in image:
        raise Reject("no kernel reads an empty batch")
    x = s.tensor(args[0], Want(image, "uint8"))
    stats = statistics(s, args[2:6], shape_of(s, x), often=1.0)
    return x, qx, *stats, s.plain(args[6], lambda: 1e-5), params(s, args[7], "output", None)


@grows("Softmax")
def softmax(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], want if want.dtype else Want(want.shape, "float32"))
    shape = shape_of(s, x)
    if not shape:
        raise Reject("no dim to sum over")
    return x, s.plain(args[1], lambda: s.pick(0.5, 0.125, 1.0)), optional(s, args[2], Want(shape, "float32"), 0.5)


@grows("EmbeddingBag")
def embedding_bag(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    rows, width = s.pick(3, 7, 20), s.pick(1, 8, 16, 33)
    w = s.tensor(args[0], Want((rows, width), "float32", "weight"))
    return w, *bags(s, args[1:3], rows)


@grows("QEmbeddingBag")
def qembedding_bag(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    here(s, "scaled_embedding_bag")
    rows, width = s.pick(3, 7, 20), s.pick(1, 8, 16, 33)
    qw = params(s, args[1], "weight", "int8", (rows, width))
    w = s.tensor(args[0], Want((rows, width), stored_as(qw), "weight"))
    return w, qw, *bags(s, args[2:4], rows), params(s, args[4], "output")


def here(s: Sampler, kernel: str) -> None:
    if kernel not in optional_kernels():
        s.hints.kernels.add(kernel)
        raise Reject(f"this torch has no {kernel} for this CPU")


def bags(s: Sampler, args: Sequence[Any], rows: int) -> tuple[Any, ...]:
    """Indices and offsets, the end of the last bag among these; a bag is seldom empty."""
    lengths = [0 if s.chance(0.05) else s.pick(1, 2, 5) for _ in range(s.pick(1, 3))]
    indices = torch.randint(rows, (sum(lengths),), generator=s.generator)
    offsets = torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)])
    made: list[Any] = []
    for pattern, tensor in zip(args, (indices, offsets), strict=True):
        if pattern.head not in s.bound:
            s.bound[pattern.head] = s.given(tensor)
        made.append(s.bound[pattern.head])
    return tuple(made)


@grows("Nothing")
def no_operand(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    return ()


@grows("Total")
def total(s: Sampler, args: Sequence[Any], want: Want) -> tuple[Any, ...]:
    x = s.tensor(args[0], ANY)
    n = s.size()
    return x, s.tensor(args[1], Want(s.pick((n,), (n,), (n, 1)), None, "statistic"))
