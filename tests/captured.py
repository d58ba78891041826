"""Captured programs: an interpreter of them, and what must hold of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import Dim, export
from torch.utils import _pytree as pytree
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

from qegraph._torch import OpOverload, signature
from qegraph.capture import Attribute, capture
from qegraph.capture_call import Call
from qegraph.program import Program, Ref, Value, map_refs

IMAGE = (torch.randn(2, 3, 8, 8),)
BATCH = ({0: Dim("batch")},)

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
