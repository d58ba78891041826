"""Graphs nobody should give, and what their owner sees: a clear error, the graph unchanged, or an equal one and a word.

The table below is the whole list: case -> how to make it, and what must come of it.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, QP, Conv, Linear, fq, net, q
from torch import Tensor, fx, nn
from torch.export import Dim

import qegraph
from qegraph.coverage.parts import qd
from qegraph.fuzz.forms import int8_first

aten: Any = torch.ops.aten


@dataclass(frozen=True)
class Given:
    """A graph, the arguments of a call, and whether these are given to `optimize` too."""

    module: Any
    inputs: Sequence[Any]
    as_examples: bool = False


@dataclass(frozen=True)
class Refused:
    """CaptureError with this message."""

    message: str


@dataclass(frozen=True)
class Unchanged:
    """The same calls, and this reason."""

    reason: str


@dataclass(frozen=True)
class Kept:
    """An equal graph with so many int8 kernels; its report says this."""

    says: str
    kernels: int = 0
    compare: bool = True
    """Not what draws random numbers, or raises when it is run."""


Case = tuple[Callable[[], Given], Refused | Unchanged | Kept]


def rows(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.linspace(-3, 3, 96).reshape(4, 24).to(dtype)


def of(function: Callable[..., Any], *parts: nn.Module, x: Tensor | None = None) -> Callable[[], Given]:
    def make() -> Given:
        given = rows() if x is None else x
        return Given(net(function, [copy.deepcopy(part) for part in parts], [given]), [given])

    return make


def built(build: Callable[[fx.Graph, fx.Node], Any], root: Mapping[str, Any] | None = None) -> Callable[[], Given]:
    """A graph written down node by node, without metadata."""

    def make() -> Given:
        graph = fx.Graph()
        graph.output(build(graph, graph.placeholder("x")))
        return Given(fx.GraphModule(dict(root or {}), graph), [rows()], as_examples=True)

    return make


# -- dtypes, metadata, shapes ------------------------------------------------------------------------------------------


def bare(examples: bool) -> Callable[[], Given]:
    def make() -> Given:
        given = of(lambda m, x: m(fq(x)), Linear())()
        for node in given.module.graph.nodes:
            node.meta.clear()
        return Given(given.module, given.inputs, as_examples=examples)

    return make


def misfit(inputs: Any) -> Callable[[], Given]:
    return lambda: Given(bare(False)().module, inputs, as_examples=True)


def symbolic() -> Given:
    model = b.Net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear()])
    return Given(b.build(model, [rows()], (({0: Dim("rows", max=64)},),), strict=False), [rows()])


# -- training ----------------------------------------------------------------------------------------------------------


class Training(nn.Module):
    def __init__(self, behind: nn.Module) -> None:
        super().__init__()
        self.conv, self.behind = Conv(), behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.conv(fq(x)))


def training(behind: nn.Module) -> Callable[[], Given]:
    def make() -> Given:
        x = b.image()
        return Given(torch.export.export(Training(behind).train(), (x,)).module(), [x])

    return make


# -- operators that aren't plain ---------------------------------------------------------------------------------------


@torch.library.custom_op("qegraph_hostile::bump", mutates_args=("x",))
def bump(x: Tensor) -> None:
    x.add_(1)


@torch.library.custom_op("qegraph_hostile::scaled", mutates_args=())
def scaled(x: Tensor) -> Tensor:
    return x * 2


@scaled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def custom(m: nn.Module, x: Tensor) -> Tensor:
    y = m(fq(x))
    torch.ops.qegraph_hostile.bump(y)
    return torch.ops.qegraph_hostile.scaled(y)


def bumps_input(m: nn.Module, x: Tensor) -> Tensor:
    torch.ops.qegraph_hostile.bump(x)
    return m(fq(x))


class Either(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(), Linear()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cond(x.sum() > 0, lambda x: self.first(fq(x)), lambda x: -self.first(fq(x)), (x,))
        return y + self.second(fq(x))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        step: Any = while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.part(fq(x))), (torch.tensor(0), x))
        return step[1]


def whole(model: nn.Module) -> Callable[[], Given]:
    return lambda: Given(b.build(model, [rows()]), [rows()])


class Leaves(fx.Tracer):
    """Calls every sub-module as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x * 2))


def nested(inner: Callable[[], nn.Module]) -> Callable[[], Given]:
    def make() -> Given:
        outer = Outer(inner())
        return Given(fx.GraphModule(outer, Leaves().trace(outer)), [rows()], as_examples=True)

    return make


# -- graphs that are none ----------------------------------------------------------------------------------------------


def same_names(graph: fx.Graph, x: fx.Node) -> fx.Node:
    first = graph.call_function(aten.relu.default, (x,))
    second = graph.call_function(aten.neg.default, (first,))
    second.name = first.name
    return second


def backwards() -> Given:
    given = built(
        lambda graph, x: graph.call_function(aten.neg.default, (graph.call_function(aten.relu.default, (x,)),))
    )()
    nodes = list(given.module.graph.nodes)
    nodes[3].prepend(nodes[1])
    return given


def no_output() -> Given:
    given = built(lambda graph, x: x)()
    given.module.graph.erase_node(given.module.graph.output_node())
    return given


def gone() -> Given:
    given = nested(lambda: nn.ReLU())()
    del given.module.inner
    return given


# -- constants ---------------------------------------------------------------------------------------------------------


def on_meta(name: str) -> Callable[[], Given]:
    def make() -> Given:
        given = of(lambda m, x: q(m(fq(x)), OUT), Linear())()
        part = given.module.get_submodule("parts.0.weight")
        setattr(part, name, getattr(part, name).to("meta"))
        return given

    return make


def per_channel(change: Callable[[Tensor], Tensor], name: str = "scales") -> Callable[[], Given]:
    """The scales of a weight, changed once the graph is made: an export would refuse some."""

    def make() -> Given:
        given = of(lambda m, x: m(fq(x)), Linear())()
        part = given.module.get_submodule("parts.0.weight")
        setattr(part, name, change(getattr(part, name).clone()))
        return given

    return make


def first(value: float) -> Callable[[Tensor], Tensor]:
    return lambda scales: scales.index_fill(0, torch.tensor([0]), value)


def into(p: QP) -> Callable[[], Given]:
    """Quantized once to p, in front of a linear."""
    return of(lambda m, x: m(fq(x, p)), Linear())


def dequantize_of_floats(graph: fx.Graph, x: fx.Node) -> fx.Node:
    return graph.call_function(qd.dequantize_per_tensor.default, (x, 0.1, 0, 0, 255, torch.uint8))


def dequantize_of_nothing(graph: fx.Graph, x: fx.Node) -> fx.Node:
    return graph.call_function(qd.dequantize_per_tensor.default, (None, 0.1, 0, 0, 255, torch.uint8))


def no_such_dim(graph: fx.Graph, x: fx.Node) -> fx.Node:
    scales, zeros = graph.get_attr("scales"), graph.get_attr("zeros")
    return graph.call_function(qd.quantize_per_channel.default, (x, scales, zeros, 5, 0, 255, torch.uint8))


RIGHT_SCALES = "stays float.*weight scales must be constant, float32, positive, one per output channel"

CASES: Mapping[str, Case] = {
    "not quantized": (of(lambda m, x: F.relu(m(x)), nn.Linear(24, 8)), Kept("left: 1 activation")),
    "float16": (of(lambda m, x: m(fq(x.float()).half()), nn.Linear(24, 8).half(), x=rows(torch.half)), Kept("left")),
    "float16 into int8": (of(lambda m, x: m(fq(x)).half(), Linear(), x=rows(torch.half)), Kept("1 int8", 1)),
    "float64": (of(lambda m, x: m(fq(x.float()).double()), nn.Linear(24, 8).double()), Kept("left: 1 quantize")),
    "no metadata": (bare(False), Refused(r"node 'inputs_0'.*no fake value.*pass example_inputs")),
    "no metadata, examples": (bare(True), Kept("1 linear: 1 int8", 1)),
    "examples that don't fit": (misfit([torch.zeros(4, 23)]), Refused(r"node 'linear'.*can't run on fake values")),
    "too many examples": (misfit([rows(), rows()]), Refused("have 2 entries; the graph takes 1: inputs_0")),
    "examples: one tensor": (misfit(rows()), Refused(r"arguments of a call, as in \(x, y\), got a Tensor")),
    "symbolic shapes": (symbolic, Kept("1 linear: 1 int8", 1)),
    "batch norm in training": (training(nn.BatchNorm2d(8)), Unchanged("'bn.num_batches|writes to the constant")),
    "dropout in training": (training(nn.Dropout()), Kept("1 conv: 1 int8", 1, compare=False)),
    "custom operators": (of(custom, Linear()), Kept("1 linear: 1 int8", 1)),
    "custom operator writes an input": (of(bumps_input, Linear()), Unchanged("'bump'.*writes to the input 'inputs_0'")),
    "control flow": (whole(Either()), Kept("(?s)1 linear: 1 int8.*'true_graph_0' is the body of an operator", 1)),
    "higher-order operator": (whole(Loop()), Kept("'while_loop_body_graph_0' is the body of an operator")),
    "sub-module": (nested(lambda: nn.Linear(24, 8)), Kept("sub-module 'inner' is called as a whole and stays")),
    "nested GraphModule": (
        nested(lambda: of(lambda m, x: m(fq(x)), Linear())().module),
        Kept("sub-module 'inner' is called as a whole and stays"),
    ),
    "sub-module that is gone": (gone, Refused(r"node 'inner'.*no sub-module 'inner'")),
    "no graph": (lambda: Given(nn.Linear(2, 2), []), Refused("expected an fx.GraphModule.*got a Linear: export")),
    "nothing": (lambda: Given(None, []), Refused("expected an fx.GraphModule.*got a NoneType")),
    "0 nodes": (lambda: Given(fx.GraphModule({}, fx.Graph()), []), Refused("no output node")),
    "only an output": (built(lambda graph, x: None), Kept("no matmul or convolution; left: nothing")),
    "input returned": (built(lambda graph, x: x), Kept("left: nothing")),
    "no output node": (no_output, Refused("no output node at its end")),
    "duplicate names": (built(same_names), Refused("two nodes are named 'relu_default'.*rename one")),
    "wrong order": (backwards, Refused("reads 'relu_default', which isn't computed before it")),
    "attribute that is a number": (built(lambda graph, x: graph.get_attr("w"), {"w": 3}), Unchanged("'w' is a int")),
    "weight on meta": (on_meta("codes"), Unchanged("'parts_0_weight_codes'.*on the meta device.*load the weights")),
    "scales on meta": (on_meta("scales"), Unchanged("'parts_0_weight_scales'.*on the meta device")),
    "NaN scale": (
        into(QP(math.nan, 0)),
        Kept("(?s)stays float.*'quantize_per_tensor'.*its scale is nan, not positive"),
    ),
    "infinite scale": (into(QP(math.inf, 0)), Kept("its scale is inf, not positive and finite: no rule reads it")),
    "zero scale": (into(QP(0.0, 0)), Refused("'quantize_per_tensor'.*divides by its scale, which is 0; quantize the")),
    "negative scale": (into(QP(-0.1, 0)), Kept("its scale is -0.1, not positive.*quantize the model again")),
    "zero point out of range": (into(QP(0.05, 300, 0, b.highest_exact_code())), Kept("1 linear: 1 int8", 1)),
    "zero point far out": (into(QP(0.05, 2**40)), Kept("its zero point is 1099511627776, far outside torch.uint8")),
    "quant_min > quant_max": (into(QP(0.05, 3, 200, 100)), Kept("its range is empty: 200..100", 1)),
    "range beyond the dtype": (
        into(QP(0.05, 0, 0, 256)),
        Refused("0..256 goes beyond torch.uint8, which holds 0..255"),
    ),
    "codes in floats": (
        into(QP(0.05, 0, 0, 9, torch.float32)),
        Refused("can't store codes as torch.float32; quantize"),
    ),
    "floats as codes": (built(dequantize_of_floats), Refused("expects codes of torch.uint8, and reads torch.float32")),
    "nothing as codes": (built(dequantize_of_nothing), Refused("'dequantize_per_tensor_default'.*can't run on fake")),
    "no such channels": (
        built(no_such_dim, {"scales": torch.ones(24), "zeros": torch.zeros(24, dtype=torch.int64)}),
        Refused("there is no dim 5 among the 2 of its operand"),
    ),
    "too few channels' scales": (per_channel(lambda s: s[1:]), Refused("has 15 scales for the 16 channels of dim 0")),
    "too many zero points": (
        per_channel(lambda z: torch.zeros(17, dtype=z.dtype), "zps"),
        Refused("has 17 zero points for the 16 channels of dim 0"),
    ),
    "NaN channel's scale": (per_channel(first(math.nan)), Kept(RIGHT_SCALES)),
    "infinite channel's scale": (per_channel(first(math.inf)), Kept(RIGHT_SCALES)),
    "zero channel's scale": (per_channel(first(0.0)), Kept(RIGHT_SCALES)),
    "negative channels' scales": (per_channel(torch.neg), Kept(RIGHT_SCALES)),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    torch.manual_seed(0)
    make, expected = CASES[name]
    given = make()
    examples: Any = given.inputs if given.as_examples else None
    if isinstance(expected, Refused):
        with pytest.raises(qegraph.CaptureError, match=expected.message):
            qegraph.optimize(given.module, examples, cost=int8_first)
        return
    code = given.module.code
    fast = qegraph.optimize(given.module, examples, cost=int8_first)
    report = qegraph.explain(fast)
    assert given.module.code == code, "the given graph was changed"
    if isinstance(expected, Unchanged):
        assert str(report).startswith("unchanged: ") and _search(expected.reason, report.unchanged)
        assert [(node.op, node.target) for node in fast.graph.nodes] == [
            (node.op, node.target) for node in given.module.graph.nodes
        ]
        return
    assert _search(expected.says, str(report)), str(report)
    assert report.unchanged == "" and len(b.kinds(fast)) == expected.kernels
    if expected.compare:
        _agree(given, fast)


def _search(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def _agree(given: Given, fast: fx.GraphModule) -> None:
    """NaNs in the same places."""
    with torch.no_grad():
        wanted, found = given.module(*given.inputs), fast(*given.inputs)
    if wanted is None:
        assert found is None
    else:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)
