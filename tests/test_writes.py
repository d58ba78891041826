"""In-place writes become values, whatever they write through; what the caller sees of them is refused."""

from __future__ import annotations

import functools
import math
import operator
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from builders import graph_of
from captured import BATCH, IMAGE, check, exported, run, targets, value_of
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from qegraph.capture import capture
from qegraph.errors import Unsupported
from qegraph.program import Program

aten = torch.ops.aten
qd = torch.ops.quantized_decomposed


# torch deep-copies its own tree specs while it decomposes a program
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")


# ---- in-place writes: simple renaming


def test_later_reads_see_the_new_value() -> None:
    def function(x: torch.Tensor) -> Any:
        y = x * 2
        before = y + 1
        y.add_(x)
        return before, y * 3, y

    inputs = (torch.randn(3),)
    program = check(exported(function, inputs), inputs)
    assert targets(program).count(aten.add.Tensor) == 2


@pytest.mark.parametrize("name", ["relu_", "silu_", "hardtanh_", "leaky_relu_", "hardswish_"])
def test_functional_twins(name: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return getattr(aten, name)(x + 1)

    program = check(exported(function, (torch.randn(5),)), (torch.randn(5),))
    assert getattr(aten, name[:-1]).default in targets(program)


def test_in_place_keeps_its_dtype() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.clone().add_(y)

    inputs = (torch.randn(3).half(), torch.randn(3))
    assert value_of(check(exported(function, inputs), inputs), "clone").fake.dtype == torch.half


# ---- in-place writes through views


def slices(x: torch.Tensor) -> Any:
    y = x * 1
    part = y[:, :2]
    part.relu_()
    y[:, 1:].add_(1)
    return y, part


def view_then_write(x: torch.Tensor) -> Any:
    y = x + 0
    flat = y.view(-1)
    flat.relu_()
    return y * 2


def write_then_read_view(x: torch.Tensor) -> Any:
    y = x + 0
    flat = y.view(-1)
    y.relu_()
    return flat * 2, y


def split_and_write(x: torch.Tensor) -> Any:
    left, right = (x * 2).split(2, 1)
    left.add_(right)
    return left, right


def copied_slice(x: torch.Tensor) -> Any:
    y = torch.zeros_like(x)
    y[:, 0] = x[:, 1]
    return y


@pytest.mark.parametrize("function", [slices, view_then_write, write_then_read_view, split_and_write, copied_slice])
@pytest.mark.parametrize("dynamic", [False, True])
def test_writes_through_views(function: Callable[..., Any], dynamic: bool) -> None:
    inputs = (torch.randn(4, 4),)
    gm = exported(function, inputs, ({0: Dim.AUTO},) if dynamic else None)
    other = [(torch.randn(6, 4),)] if dynamic else []
    program = check(gm, inputs, *other)
    assert {"_guards_fn"} == program.modules.keys()


def test_view_written_after_its_last_read_is_renamed() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x + 0).view(-1).relu_()

    program = check(exported(function, (torch.randn(2, 3),)), (torch.randn(2, 3),))
    assert value_of(program, "relu_").target is aten.relu.default


def test_retracing_keeps_composite_operators_and_names() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            y[:, :2].relu_()
            return self.linear(y.mean((2, 3)))

    program = check(exported(Model(), IMAGE, BATCH), IMAGE, (torch.randn(3, 3, 8, 8),))
    assert {aten.conv2d.default, aten.linear.default} <= set(targets(program))
    assert {"conv.weight", "conv.bias", "linear.weight", "linear.bias"} == program.constants.keys()
    assert value_of(program, "conv2d").target is aten.conv2d.default
    assert value_of(program, "linear").meta["stack_trace"]


def test_writes_of_methods_and_python_functions() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        x = graph.call_function(operator.add, (x, 1))
        y = graph.call_function(operator.iadd, (x, 2))
        graph.call_function(nn.functional.relu, (x,), {"inplace": True})
        return graph.call_method("mul_", (y, 3))

    program = check(graph_of(make), (torch.randn(3),), examples=(torch.randn(3),))
    assert targets(program) == [aten.add.Tensor, aten.add.Tensor, aten.relu.default, aten.mul.Tensor]


def test_dropout_in_eval_mode_is_a_view() -> None:
    def function(x: torch.Tensor) -> Any:
        y = x * 2
        dropped = aten.dropout(y, 0.5, False)
        y[1:].relu_()
        return dropped + 1

    check(exported(function, (torch.randn(4),)), (torch.randn(4),))


def test_writes_inside_autocast_and_no_grad_blocks() -> None:
    linear = nn.Linear(4, 5)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, x: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = self.linear(x).relu_()
            with torch.no_grad():
                z = y.float()
                z[:, 0] = 0
            return y, z

    program = check(exported(Model(), (torch.randn(2, 4),)), (torch.randn(2, 4),))
    assert value_of(program, "getitem").fake.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


@torch.library.custom_op("qegraph_test::increment", mutates_args=("x",))
def custom_increment(x: torch.Tensor) -> None:
    """An operator that writes and has no functional twin."""
    x.add_(1)


def increment_copy(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    torch.ops.qegraph_test.increment(y)
    return y * 2


def increment_input(x: torch.Tensor) -> torch.Tensor:
    torch.ops.qegraph_test.increment(x)
    return x * 2


def test_operators_without_functional_twin() -> None:
    check(exported(increment_copy, (torch.randn(3),)), (torch.randn(3),))
    with pytest.raises(Unsupported, match="input 'args_0'"):
        capture(exported(increment_input, (torch.randn(3),)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_graph(dynamic: bool) -> None:
    seen: list[Program] = []

    def backend(gm: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        seen.append(check(gm))
        return functools.partial(run, seen[-1])

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.reshape(x.shape[0], -1) + 1
        y[:, 1:].mul_(x.shape[0])
        return y

    torch.compiler.reset()
    compiled: Any = torch.compile(function, backend=backend, dynamic=dynamic)
    for size in (3, 5) if dynamic else (3,):
        x = torch.randn(size, 2, 2)
        assert torch.equal(compiled(x), function(x))
    assert len(seen) == 1


Shaped = tuple[fx.Node, tuple[int, ...]]


class RandomGraph:
    """Random reads, views and in-place writes of copies of the input and of a parameter."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.graph = fx.Graph()
        x, weight = self.graph.placeholder("x"), self.graph.get_attr("weight")
        self.pool: list[Shaped] = [(self.call(aten.clone.default, each), (4, 6)) for each in (x, weight)]
        for _ in range(self.random.randint(5, 16)):
            self.pool.append(self.step(*self.random.choice(self.pool)))
        results = self.random.sample(self.pool, min(len(self.pool), self.random.randint(1, 4)))
        self.graph.output(tuple(node for node, _ in results))

    def call(self, op: Any, *args: Any) -> fx.Node:
        return self.graph.call_function(op, args)

    def step(self, node: fx.Node, shape: tuple[int, ...]) -> Shaped:
        return self.random.choice([self.write, self.write, self.view, self.same])(node, shape)

    def write(self, node: fx.Node, shape: tuple[int, ...]) -> Shaped:
        other = self.random.choice([each for each, other in self.pool if other == shape])
        fresh = self.call(aten.mul.Tensor, other, 3)
        calls = [
            (aten.relu_.default,),
            (aten.add_.Tensor, fresh),
            (aten.copy_.default, fresh),
            (aten.mul_.Tensor, -0.5),
        ]
        op, *args = self.random.choice(calls)
        return self.call(op, node, *args), shape

    def same(self, node: fx.Node, shape: tuple[int, ...]) -> Shaped:
        calls = [(aten.detach.default,), (aten.contiguous.default,), (aten.dropout.default, 0.5, False)]
        op, *args = self.random.choice([*calls, (aten.to.dtype, torch.float32), (aten.neg.default,)])
        return self.call(op, node, *args), shape

    def view(self, node: fx.Node, shape: tuple[int, ...]) -> Shaped:
        choice = self.random.randrange(4)
        if choice == 0 and shape[0] > 1:
            return self.call(aten.slice.Tensor, node, 0, 1, shape[0]), (shape[0] - 1, *shape[1:])
        if choice == 1 and shape[0] % 2 == 0:
            halves = self.call(aten.split.Tensor, node, shape[0] // 2)
            return self.call(operator.getitem, halves, self.random.randrange(2)), (shape[0] // 2, *shape[1:])
        if choice == 2:
            return self.call(aten.reshape.default, node, [-1]), (math.prod(shape),)
        return self.call(aten.transpose.int, node, 0, -1), shape[::-1]


@pytest.mark.parametrize("seed", range(0, 120, 10))
def test_random_writes(seed: int) -> None:
    for each in range(seed, seed + 10):
        root = {"weight": nn.Parameter(torch.randn(4, 6), requires_grad=False)}
        inputs = (torch.randn(4, 6),)
        check(fx.GraphModule(root, RandomGraph(each).graph), inputs, examples=inputs)


# ---- writes the caller sees


class Counter(nn.Module):
    """Writes to a buffer."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x + self.count


def relu_input(x: torch.Tensor) -> torch.Tensor:
    return x.relu_()


def relu_input_view(x: torch.Tensor) -> torch.Tensor:
    x.view(-1).relu_()
    return x + 1


def maybe_view(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().relu_()


@pytest.mark.parametrize("function", [relu_input, relu_input_view, maybe_view])
def test_writes_to_inputs_are_unsupported(function: Callable[..., Any]) -> None:
    gm = exported(function, (torch.randn(2, 3),))
    with pytest.raises(
        Unsupported, match=r"node 'relu_'.*writes to the input 'x|node 'relu_'.*writes to the input 'arg"
    ):
        capture(gm)


def test_write_to_a_copy_of_a_strided_input() -> None:
    inputs = (torch.randn(3, 2).t(),)
    check(exported(maybe_view, inputs), inputs)


def test_writes_to_buffers_are_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"add_.*writes to the constant 'count'"):
        capture(exported(Counter(), (torch.randn(2),)))


def test_methods_that_write_to_inputs_leave_them_alone() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.squeeze_(0)

    gm = fx.symbolic_trace(function)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(1, 3))
    next(iter(gm.graph.nodes)).meta["val"] = fake
    with pytest.raises(Unsupported, match="input 'x'"):
        capture(gm)
    assert fake.shape == (1, 3)


def test_batch_norm_in_training_mode_is_unsupported() -> None:
    def function(x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> Any:
        return aten.batch_norm(x, None, None, mean, var, True, 0.1, 1e-5, False)

    gm = fx.symbolic_trace(function)
    with pytest.raises(Unsupported, match="running statistics"):
        capture(gm, (torch.randn(2, 3), torch.zeros(3), torch.ones(3)))


def test_lowered_sum_is_unsupported() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    op: Any = torch.ops.onednn.qlinear_pointwise.binary
    args = (x, 1.0, 0, x, x, x, x, None, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], "")
    graph.output(graph.call_function(op, args))
    with pytest.raises(Unsupported, match="sum"):
        capture(fx.GraphModule({}, graph), (torch.randn(2, 2),))
