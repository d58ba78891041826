"""A smaller program that fails in the same way: fewer outputs, fewer ops, smaller sizes."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from .check import Finding, Settings, check
from .draft import Program, tidy

SECONDS = 40.0
"""After so many, what has been reached is good enough."""
_SHAKEN = 8
"""Random forms of a smaller program: which number shows it changes with the program."""


def shrunk(program: Program, finding: Finding, settings: Settings, seconds: float = SECONDS) -> tuple[Program, Finding]:
    """Edits are tried one by one, again from the first after each that keeps the failure."""
    end = time.perf_counter() + seconds
    program = replace(program, inputs=finding.inputs)
    is_shaken = finding.form.startswith("shaken")
    settings = replace(settings, shaken=_SHAKEN if is_shaken else 0, twice=finding.form == "twice")
    while True:
        for edit in _edits(program):
            if time.perf_counter() > end:
                return program, finding
            found = _still(edit, finding, settings)
            if found is not None:
                program, finding = replace(edit, inputs=found.inputs), found
                break
        else:
            return program, finding


def _still(program: Program, finding: Finding, settings: Settings) -> Finding | None:
    """The finding of the same kind that the program gives, if it is a program at all."""
    try:
        with torch.no_grad():
            program.module(*(each.clone() for each in program.inputs))
    except Exception:  # the edit made no valid program
        return None
    found = check(program, settings).finding
    return found if found is not None and _kind(found) == _kind(finding) else None


def _kind(finding: Finding) -> str:
    """A wrong value, or the first words of the error: not which output, nor by how much."""
    head = finding.what.split(":")[0]
    return "value" if head.startswith("output ") else head


def _edits(program: Program) -> Iterator[Program]:
    """Those that take most away come first. Each is a program of its own."""
    yield from _fewer_outputs(program)
    yield from _earlier_outputs(program)
    yield from _cuts(program)
    yield from _bypasses(program)
    yield from _halves(program)


def _results(module: fx.GraphModule) -> list[fx.Node]:
    return list(module.graph.output_node().all_input_nodes)


def _fewer_outputs(program: Program) -> Iterator[Program]:
    names = [node.name for node in _results(program.module)]
    for name in names if len(names) > 1 else ():
        yield _returning(program, [name])
    for name in names if len(names) > 2 else ():
        yield _returning(program, [each for each in names if each != name])


def _earlier_outputs(program: Program) -> Iterator[Program]:
    for result in _results(program.module):
        for operand in result.all_input_nodes:
            others = [node.name for node in _results(program.module) if node is not result]
            if operand.op != "get_attr":
                yield _returning(program, [*others, operand.name])


def _returning(program: Program, names: Sequence[str]) -> Program:
    module = copy.deepcopy(program.module)
    known = {node.name: node for node in module.graph.nodes}
    module.graph.output_node().args = (tuple(known[name] for name in names),)
    return _tidied(module, program)


def _tidied(module: fx.GraphModule, program: Program, inputs: Sequence[Tensor] | None = None) -> Program:
    """Without what is no longer read, inputs included."""
    tidy(module)
    inputs = list(program.inputs if inputs is None else inputs)
    kept: list[Tensor] = []
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, tensor in zip(places, inputs, strict=True):
        if node.users:
            kept.append(tensor)
        else:
            module.graph.erase_node(node)
    module.recompile()
    return replace(program, module=module, inputs=tuple(kept))


class _Values(fx.Interpreter):
    """Keeps what every node gives, as it is then."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n.name] = result.clone() if isinstance(result, Tensor) else result
        return result


def _values(program: Program) -> dict[str, Any]:
    run = _Values(program.module)
    with torch.no_grad():
        run.run(*(each.clone() for each in program.inputs))
    return run.values


def _cuts(program: Program) -> Iterator[Program]:
    """A value becomes an input; late ones first, as that takes away most."""
    values = _values(program)
    for node in reversed(list(program.module.graph.nodes)):
        value = values.get(node.name)
        if node.op != "call_function" or not isinstance(value, Tensor) or _of_constants(node):
            continue
        module = copy.deepcopy(program.module)
        old = next(each for each in module.graph.nodes if each.name == node.name)
        last = [each for each in module.graph.nodes if each.op == "placeholder"]
        with module.graph.inserting_after(last[-1]) if last else module.graph.inserting_before():
            new = module.graph.placeholder(f"x{len(values)}")
        old.replace_all_uses_with(new)
        smaller = _tidied(module, program, [*program.inputs, value])
        if len(smaller.module.graph.nodes) < len(program.module.graph.nodes):
            yield smaller


def _of_constants(node: fx.Node) -> bool:
    return all(each.op == "get_attr" for each in node.all_input_nodes)


def _bypasses(program: Program) -> Iterator[Program]:
    """An operand of the same shape and dtype takes the place of the result."""
    values = _values(program)
    for node in program.module.graph.nodes:
        value = values.get(node.name)
        if node.op != "call_function" or not isinstance(value, Tensor):
            continue
        for operand in node.all_input_nodes:
            other = values[operand.name]
            if isinstance(other, Tensor) and (other.shape, other.dtype) == (value.shape, value.dtype):
                module = copy.deepcopy(program.module)
                known = {each.name: each for each in module.graph.nodes}
                known[node.name].replace_all_uses_with(known[operand.name])
                module.graph.erase_node(known[node.name])
                yield _tidied(module, program)


def _halves(program: Program) -> Iterator[Program]:
    """A size becomes half of it wherever it stands, in tensors and in arguments; or in one dim of one input."""
    tensors = [*program.inputs, *program.module.buffers()]
    for size in sorted({size for each in tensors for size in each.shape if size > 1}, reverse=True):
        half = size // 2
        module = copy.deepcopy(program.module)
        for name, tensor in list(module.named_buffers()):
            module.register_buffer(name, _cut(tensor, size, half))
        for node in module.graph.nodes:
            if node.op == "call_function" and "quantize" not in str(node.target):
                node.args = tuple(_resized(each, size, half) for each in node.args)
        yield _tidied(module, program, [_cut(each, size, half) for each in program.inputs])
    for at, tensor in enumerate(program.inputs):
        for dim, size in enumerate(tensor.shape):
            if size > 1:
                inputs = list(program.inputs)
                inputs[at] = tensor.narrow(dim, 0, size // 2).clone()
                yield replace(program, inputs=tuple(inputs))


def _cut(tensor: Tensor, size: int, half: int) -> Tensor:
    for dim in range(tensor.dim()):
        if tensor.shape[dim] == size:
            tensor = tensor.narrow(dim, 0, half)
    return tensor.clone()


def _resized(arg: Any, size: int, half: int) -> Any:
    if isinstance(arg, (list, tuple)):
        return [half if type(each) is int and each == size else each for each in arg]
    return arg
