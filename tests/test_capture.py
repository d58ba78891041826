"""Capture agrees exactly with the graph it reads, and says so when it can't."""

from __future__ import annotations

import functools
import math
import operator
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim, export
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

from qegraph._torch import OpOverload, signature
from qegraph.capture import Attribute, Method, capture
from qegraph.capture_call import Call
from qegraph.errors import CaptureError, Unsupported
from qegraph.program import Program, Ref, Value, map_refs

aten = torch.ops.aten
qd = torch.ops.quantized_decomposed


# torch deep-copies its own tree specs while it decomposes a program
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")

# ---- the reference interpreter


def run(program: Program, *inputs: Any) -> Any:
    """Evaluate the program on real inputs, value by value."""
    flat = iter(program.codegen.process_inputs(*inputs))
    results: list[Any] = []

    def read(item: Any) -> Any:
        return results[item.index] if isinstance(item, Ref) else item

    for value in program.values:
        if value.kind == "input":
            results.append(next(flat))
        elif value.kind == "constant":
            results.append(program.constants[value.target])
        elif isinstance(value.target, Attribute):
            results.append(program.modules[value.target.name])
        else:
            target = program.modules[value.target] if value.kind == "module" else value.target
            results.append(Call(target, value.args, value.kwargs).run(read))
    return program.codegen.process_outputs(map_refs(program.output, read))


# ---- helpers


def state_of(gm: fx.GraphModule) -> Any:
    """What capture must leave alone: code, node metadata, parameters and buffers."""
    meta = [(node.name, dict(node.meta)) for node in gm.graph.nodes]
    keys = [(name, sorted(each), [id(item) for item in each.values()]) for name, each in meta]
    return gm.code, keys, {name: (id(t), t._version, t.clone()) for name, t in gm.state_dict(keep_vars=True).items()}


def assert_same_state(before: Any, after: Any) -> None:
    assert before[:2] == after[:2]
    assert before[2].keys() == after[2].keys()
    for name, (identity, version, value) in before[2].items():
        assert (identity, version) == after[2][name][:2]
        assert torch.equal(value, after[2][name][2])


def assert_equal(expected: Any, found: Any) -> None:
    expected_leaves, expected_spec = pytree.tree_flatten(expected)
    found_leaves, found_spec = pytree.tree_flatten(found)
    assert expected_spec == found_spec
    for left, right in zip(expected_leaves, found_leaves, strict=True):
        if isinstance(left, torch.Tensor):
            assert left.dtype == right.dtype
            assert torch.equal(left, right)
        else:
            assert left == right


def check(gm: fx.GraphModule, *calls: Sequence[Any], examples: Sequence[Any] | None = None) -> Program:
    """Capture `gm` and compare it with the source on every set of inputs; the program."""
    before, random_state = state_of(gm), torch.get_rng_state()
    program = capture(gm, examples)
    assert_same_state(before, state_of(gm))
    assert torch.equal(random_state, torch.get_rng_state())
    for inputs in calls:
        with torch.no_grad():
            expected = gm(*pytree.tree_map_only(torch.Tensor, torch.clone, inputs))
            assert_equal(expected, run(program, *pytree.tree_map_only(torch.Tensor, torch.clone, inputs)))
    assert_well_formed(program)
    return program


def assert_well_formed(program: Program) -> None:
    for position, value in enumerate(program.values):
        assert value.index == position
        if isinstance(value.target, OpOverload):
            assert len(value.args) == len(signature(value.target).parameters)
            assert not value.kwargs
            assert not signature(value.target).written
    assert program.effects == tuple(value.index for value in program.values if not value.pure)
    modes = {leaf.fake_mode for leaf in pytree.tree_leaves([v.fake for v in program.values]) if is_fake(leaf)}
    assert len(modes) <= 1
    assert set(program.source_nodes.values()) <= set(range(len(program.values)))


def is_fake(item: Any) -> bool:
    return isinstance(item, FakeTensor)


def targets(program: Program) -> list[Any]:
    return [value.target for value in program.values if value.kind == "call"]


def value_of(program: Program, node: str) -> Value:
    return program.values[program.source_nodes[node]]


def exported(model: Callable[..., Any], inputs: tuple[Any, ...], dynamic: Any = None) -> fx.GraphModule:
    module = model if isinstance(model, nn.Module) else Function(model)
    if dynamic is not None and isinstance(module, Function):
        dynamic = (dynamic,)  # one entry for `*args`
    return as_graph_module(export(module.eval(), inputs, dynamic_shapes=dynamic).module())


def as_graph_module(module: nn.Module) -> fx.GraphModule:
    assert isinstance(module, fx.GraphModule)
    return module


class Function(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4), requires_grad=False)

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def quantized(model: nn.Module, inputs: tuple[Any, ...], dynamic: Any = None, **config: Any) -> fx.GraphModule:
    """`model` exported and quantized with torchao's x86 recipe."""
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(**config))
    prepared = prepare_pt2e(exported(model, inputs, dynamic), quantizer)
    prepared(*inputs)
    return as_graph_module(convert_pt2e(prepared))


class Residual(nn.Module):
    """conv, bn, relu_, conv, add_, relu_, dropout, linear; a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.linear, self.drop = nn.BatchNorm2d(8), nn.Linear(8, 4), nn.Dropout(0.5)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.relu1(self.norm(self.conv1(x)))
        z = self.conv2(y)
        z += y
        z = self.relu2(z)
        return {"logits": self.linear(self.drop(z.mean((2, 3)))), "features": z.flatten(1)}


IMAGE = (torch.randn(2, 3, 8, 8),)
BATCH = ({0: Dim("batch")},)


@pytest.fixture(scope="module")
def residual() -> fx.GraphModule:
    torch.manual_seed(0)
    return quantized(Residual(), IMAGE)


@pytest.fixture(scope="module")
def dynamic_residual() -> fx.GraphModule:
    torch.manual_seed(0)
    return quantized(Residual(), IMAGE, BATCH)


# ---- torchao models


def test_quantized_residual(residual: fx.GraphModule) -> None:
    program = check(residual, IMAGE)
    found = targets(program)
    assert found.count(aten.relu.default) == 2
    assert aten.add.Tensor in found
    assert aten.dropout.default not in found
    assert program.class_name == "GraphModule"
    assert value_of(program, "dropout") is value_of(program, "mean")
    assert [program.values[i].target for i in program.effects] == ["_guards_fn"]
    names = {node.name for node in residual.graph.nodes if node.op != "output"}
    assert names - program.source_nodes.keys() == set()


def test_dynamic_batch(dynamic_residual: fx.GraphModule) -> None:
    program = check(dynamic_residual, IMAGE, (torch.randn(5, 3, 8, 8),))
    fake = value_of(program, "linear").fake
    assert isinstance(fake.shape[0], torch.SymInt)
    assert fake.shape[1] == 4


def test_dynamic_quantization() -> None:
    inputs = (torch.randn(3, 8),)
    gm = quantized(nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)), inputs, is_dynamic=True)
    program = check(gm, inputs)
    assert qd.choose_qparams.tensor in targets(program)
    assert operator.getitem in targets(program)


def test_capture_is_deterministic(residual: fx.GraphModule) -> None:
    first, second = capture(residual), capture(residual)
    assert [(v.target, v.args, v.name) for v in first.values] == [(v.target, v.args, v.name) for v in second.values]
    assert first.source_nodes == second.source_nodes


def test_exported_program_and_decompositions(dynamic_residual: fx.GraphModule) -> None:
    again = export(dynamic_residual, IMAGE, dynamic_shapes=BATCH)
    inputs = (torch.randn(3, 3, 8, 8),)
    with torch.no_grad():
        assert_equal(dynamic_residual(*inputs), run(capture(again), *inputs))
    decomposed = again.run_decompositions()
    program = check(as_graph_module(decomposed.module()), inputs)
    assert aten.convolution.default in targets(program)
    assert aten.addmm.default in targets(program)


def test_make_fx_graph() -> None:
    linear = nn.Linear(4, 3)

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(linear(x))

    inputs = (torch.randn(2, 4),)
    gm = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    check(gm, inputs, (torch.randn(7, 4),))


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model = Tied()
    program = check(fx.symbolic_trace(Inlined(model)), (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert len(program.constants) == 3
    assert any(tensor is model.first.weight for tensor in program.constants.values())


class Inlined(nn.Module):
    """Reads two linears' parameters directly, so that symbolic tracing shows them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.model.first, self.model.second
        return aten.linear(aten.linear(x, first.weight, first.bias), second.weight, second.bias)


def test_nested_inputs_and_outputs() -> None:
    def function(x: Mapping[str, torch.Tensor], pair: Sequence[torch.Tensor]) -> Any:
        return {"sum": x["a"] + pair[0], "rest": (pair[1] * 2, [x["b"]])}

    inputs = ({"a": torch.randn(2), "b": torch.randn(3)}, (torch.randn(2), torch.randn(4)))
    check(exported(function, inputs), inputs)


def test_symbolic_sizes_through_python_functions() -> None:
    def function(x: torch.Tensor) -> Any:
        return x.reshape(x.shape[0] * 2, -1), x.shape[0] * 2, torch.ones(x.shape[0])

    inputs = (torch.randn(4, 2, 3),)
    program = check(exported(function, inputs, ({0: Dim.AUTO},)), inputs, (torch.randn(6, 2, 3),))
    assert operator.mul in targets(program)


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

    program = check(build(make), (torch.randn(3),), examples=(torch.randn(3),))
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


def test_what_is_switched_on_around_capture_does_not_matter(residual: fx.GraphModule) -> None:
    plain = [v.fake.dtype for v in capture(residual).values if is_fake(v.fake)]
    with torch.autocast("cpu"), torch.inference_mode():
        assert [v.fake.dtype for v in capture(residual).values if is_fake(v.fake)] == plain


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


# ---- arguments


def build(make: Callable[[fx.Graph, fx.Node], fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(make(graph, graph.placeholder("x")))
    return fx.GraphModule({}, graph)


def test_arguments_follow_the_schema() -> None:
    x = torch.randn(1, 2, 5, 5)
    spellings = [
        build(lambda graph, x: graph.call_function(aten.avg_pool2d.default, (x, [2, 2]))),
        build(lambda graph, x: graph.call_function(aten.avg_pool2d, (x, 2), {"divisor_override": None})),
        build(lambda graph, x: graph.call_function(aten.avg_pool2d.default, (), {"self": x, "kernel_size": (2, 2)})),
    ]
    calls = [check(gm, (x,), examples=(x,)).values[-1] for gm in spellings]
    assert all(call.target is aten.avg_pool2d.default for call in calls)
    assert all(call.args == (Ref(0), [2, 2], [], [0, 0], False, True, None) for call in calls)


def test_packets_resolve_to_overloads() -> None:
    gm = build(lambda graph, x: graph.call_function(aten.add, (x, 2), {"alpha": 3}))
    call = check(gm, (torch.randn(2),), examples=(torch.randn(2),)).values[-1]
    assert (call.target, call.args) == (aten.add.Tensor, (Ref(0), 2, 3))


def test_memory_format_default_is_named() -> None:
    gm = build(lambda graph, x: graph.call_function(aten.contiguous.default, (x,)))
    call = check(gm, (torch.randn(2, 3).t(),), examples=(torch.randn(2, 3).t(),)).values[-1]
    assert call.args == (Ref(0), torch.contiguous_format)


@pytest.mark.parametrize("args, kwargs", [((1, 2, 3, 4), {}), ((), {}), ((), {"x": 1})])
def test_malformed_calls(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    gm = build(lambda graph, x: graph.call_function(aten.relu.default, args, kwargs))
    with pytest.raises(CaptureError, match=r"node 'relu_default'.*relu\(Tensor self\)"):
        capture(gm, (torch.randn(2),))


# ---- shapes


def test_missing_shapes() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    gm = fx.symbolic_trace(function)
    with pytest.raises(CaptureError, match=r"node 'x'.*pass example_inputs"):
        capture(gm)
    with pytest.raises(CaptureError, match="1 entries; the graph takes 2: x, y"):
        capture(gm, (torch.randn(2),))
    check(gm, (torch.randn(2), torch.randn(2)), examples=(torch.randn(2), torch.randn(2)))


def test_stale_fake_values_are_recomputed(dynamic_residual: fx.GraphModule) -> None:
    gm = as_graph_module(export(dynamic_residual, IMAGE).module())
    relu = next(node for node in gm.graph.nodes if node.target is aten.relu_.default)
    relu.meta["val"] = "stale"
    assert is_fake(value_of(capture(gm), relu.name).fake)


@torch.library.custom_op("qegraph_test::no_fake", mutates_args=())
def no_fake(x: torch.Tensor) -> torch.Tensor:
    """An operator that can't run on fake values."""
    return x.clone()


def test_an_operator_without_fake_values() -> None:
    gm = build(lambda graph, x: graph.call_function(torch.ops.qegraph_test.no_fake.default, (x,)))
    with pytest.raises(CaptureError, match=r"node 'no_fake_default' \[call_function qegraph_test.no_fake") as caught:
        capture(gm, (torch.randn(2),))
    assert caught.value.__cause__ is not None
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(2))
    for node in gm.graph.nodes:
        node.meta["val"] = fake
    check(gm, (torch.randn(2),))


def test_data_dependent_sizes() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(x.nonzero() * 2)

    check(exported(function, (torch.randn(5),)), (torch.tensor([0.0, 1.0, 2.0]).repeat(2)[:5],))


def test_integer_and_none_inputs() -> None:
    def function(x: torch.Tensor, n: int, none: None) -> torch.Tensor:
        return aten.mul.Scalar(x, n)

    gm = fx.symbolic_trace(function)
    inputs = (torch.randn(2), 3, None)
    check(gm, inputs, examples=inputs)


# ---- purity, identities, folding


def test_impure_calls_are_kept() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        graph.call_function(aten.rand_like.default, (x,))
        graph.call_function(aten.relu.default, (x,))
        graph.call_function(aten._assert_async.msg, (graph.call_function(aten.any.default, (x,)), "no"))
        graph.call_function(aten.dropout.default, (x, 0.5, True))
        graph.call_function(aten.bernoulli_.float, (graph.call_function(aten.clone.default, (x,)),))
        return graph.call_function(aten.scaled_dot_product_attention.default, (x, x, x))

    program = check(build(make), examples=(torch.ones(1, 2, 4),))
    effects = [program.values[index].target for index in program.effects]
    assert effects == [aten.rand_like.default, aten._assert_async.msg, aten.dropout.default, aten.bernoulli.p]
    assert aten.relu.default not in targets(program)
    assert program.values[-1].pure


def test_identities_are_not_values_but_clones_are() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> Any:
        detached = graph.call_function(aten.detach.default, (x,))
        aliased = graph.call_function(aten.alias.default, (detached,))
        dropped = graph.call_function(aten.dropout.default, (aliased, 0.5, False))
        return graph.call_function(aten.clone.default, (dropped,)), dropped

    program = check(build(make), (torch.randn(2),), examples=(torch.randn(2),))
    assert targets(program) == [aten.clone.default]
    assert program.output == (Ref(1), Ref(0))
    assert program.source_nodes == {"x": 0, "detach_default": 0, "alias_default": 0, "dropout_default": 0} | {
        "clone_default": 1
    }


def folded(make: Callable[[fx.Graph, fx.Node, fx.Node], Any]) -> Program:
    graph = fx.Graph()
    x, weight = graph.placeholder("x"), graph.get_attr("weight")
    graph.output(make(graph, x, weight))
    root = {"weight": nn.Parameter(torch.randn(3, 4), requires_grad=False)}
    return check(fx.GraphModule(root, graph), (torch.randn(2, 4),), examples=(torch.randn(2, 4),))


def test_constants_are_folded() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        args = (0.1, 0, -128, 127, torch.int8)
        quantized = graph.call_function(qd.quantize_per_tensor.default, (weight, *args))
        dequantized = graph.call_function(qd.dequantize_per_tensor.default, (quantized, *args))
        turned = graph.call_function(aten.t.default, (dequantized,))
        direct = graph.call_function(aten.permute.default, (weight, [1, 0]))
        return graph.call_function(aten.mm.default, (x, turned)), graph.call_function(aten.mm.default, (x, direct))

    program = folded(make)
    assert program.constants.keys() == {"_folded_quantize_per_tensor_default", "_folded_permute_default"}
    assert program.constants["_folded_quantize_per_tensor_default"].dtype == torch.int8
    assert qd.quantize_per_tensor.default not in targets(program)
    assert {qd.dequantize_per_tensor.default, aten.t.default} <= set(targets(program))


def test_returned_copies_of_constants_stay_calls() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        copy = graph.call_function(aten.clone.default, (weight,))
        return graph.call_function(aten.view.default, (copy, [4, 3]))

    assert targets(folded(make)) == [aten.clone.default, aten.view.default]


def test_writes_to_copies_of_constants() -> None:
    def make(graph: fx.Graph, x: fx.Node, weight: fx.Node) -> Any:
        copy = graph.call_function(aten.lift_fresh_copy.default, (weight,))
        graph.call_function(aten.add_.Tensor, (copy, 1))
        return graph.call_function(aten.linear.default, (x, copy))

    assert targets(folded(make)) == [aten.add.Tensor, aten.linear.default]


# ---- modules, methods, attributes


def test_modules_are_shared_calls() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    gm = fx.symbolic_trace(model)
    program = check(gm, (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert [value.kind for value in program.values] == ["input", "module", "module"]
    assert program.modules["0"] is gm.get_submodule("0")
    assert len(program.effects) == 2


def test_methods_stay_methods() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.permute(1, 0).mean(dim=1)

    gm = fx.symbolic_trace(function)
    program = check(gm, (torch.randn(2, 4),), examples=(torch.randn(2, 4),))
    assert targets(program) == [Method("permute"), Method("mean")]
    assert program.values[2].kwargs == {"dim": 1}


def increment(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_control_flow_bodies_are_attributes() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, increment, double, (x,))

    inputs = (torch.randn(3),)
    program = check(exported(function, inputs), inputs, (-torch.ones(3),), (torch.ones(3),))
    assert sum(isinstance(target, Attribute) for target in targets(program)) == 2


def test_exported_no_grad_block() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        with torch.no_grad():
            y = y * 2
        return y.relu_()

    grad = torch.is_grad_enabled()
    check(exported(function, (torch.randn(3),)), (torch.randn(3),))
    assert torch.is_grad_enabled() == grad


def test_missing_attribute() -> None:
    gm = fx.GraphModule({"w": torch.randn(2)}, fx.Graph())
    gm.graph.output(gm.graph.create_node("get_attr", "nowhere.weight"))
    with pytest.raises(CaptureError, match=r"no attribute 'nowhere\.weight'"):
        capture(gm, ())


# ---- size


def test_ten_thousand_nodes() -> None:
    def make(graph: fx.Graph, x: fx.Node) -> fx.Node:
        args = (0.1, 128, 0, 255, torch.uint8)
        while len(graph.nodes) < 10_000:
            x = graph.call_function(qd.quantize_per_tensor.default, (x, *args))
            x = graph.call_function(qd.dequantize_per_tensor.default, (x, *args))
            x = graph.call_function(aten.view.default, (x, [4, 2]))
            x = graph.call_function(aten.add.Tensor, (x, x))
            x = graph.call_function(aten.relu_.default, (x,))
        return x

    gm = build(make)
    start = time.perf_counter()
    program = check(gm, examples=(torch.randn(4, 2),))
    seconds = time.perf_counter() - start
    assert len(program.values) >= 9_999
    assert seconds < 20
