"""Fake values: which fake mode a graph is captured in, and what each call returns in it."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from qegraph._torch import (
    FakeTensor,
    FakeTensorMode,
    ShapeEnv,
    enable_python_dispatcher,
    fixed_symbols,
    is_guards_module,
    pytree,
    sets_grad_mode,
)
from qegraph.capture_call import Call, where
from qegraph.errors import CaptureError, Unsupported
from qegraph.inputs import flat_inputs
from qegraph.program import Ref
from qegraph.undisturbed import undisturbed

_SHAPE_KEYS = ("val", "example_value")

_ONE_THREAD = threading.RLock()
"""A fake mode keeps what kernel is running, and all that capture the same graph share the graph's."""


class FakeRunner:
    """Runs calls on fake values, in the fake mode of the graph's own placeholders where they have one.

    The shapes of `example_inputs` are used only for placeholders without a fake value, and are taken as fixed.
    """

    def __init__(self, graph: fx.Graph, example_inputs: Sequence[Any] | None) -> None:
        placeholders = list(graph.find_nodes(op="placeholder"))
        found = _mode_of(placeholders)
        # packed weights, in a graph that was optimised before, are real: opaque memory has no fake
        self.mode = found or FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        self._has_graph_mode = found is not None
        examples = None if example_inputs is None else flat_inputs(graph, example_inputs)
        with _ONE_THREAD:
            self._inputs = {node: self._input(node, i, examples) for i, node in enumerate(placeholders)}

    @contextmanager
    def running(self) -> Generator[None]:
        """To make calls in."""
        with _ONE_THREAD, undisturbed(), self.mode:
            yield

    def _input(self, node: fx.Node, position: int, examples: Sequence[Any] | None) -> Any:
        for key in _SHAPE_KEYS:
            if key in node.meta:
                return self.constant(node.meta[key])
        if examples is not None:
            return self.constant(examples[position])
        raise CaptureError(
            f"{where(node)}: the input has no fake value (node.meta['val']); pass example_inputs to give its shape"
        )

    def input(self, node: fx.Node) -> Any:
        """The fake value of a placeholder."""
        return self._inputs[node]

    def constant(self, value: Any) -> Any:
        """The fake of a real tensor, always the same one for the same tensor; anything else unchanged."""
        if not isinstance(value, torch.Tensor):
            return value
        if isinstance(value, FakeTensor):
            if value.fake_mode is self.mode:
                return value
            raise CaptureError("the graph mixes fake values of two fake modes; export it again, or remove meta['val']")
        return self.mode.from_tensor(value, static_shapes=True)

    def call(self, node: fx.Node, call: Call, values: Sequence[Any]) -> Any:
        """What `call`, made by `node`, returns for the fake operands `values` (indexed by `Ref.index`).

        Raises `CaptureError` when it can't run on fake values and the graph recorded none, and `Unsupported` when a
        symbolic size would be a number from here on, although the graph was exported for others.
        """
        if sets_grad_mode(call.target):
            return None  # running it would change the caller's mode
        if "unbacked_bindings" in node.meta and self._is_known(node):
            return node.meta["val"]  # a new run would make new symbols for the same data-dependent sizes

        def read(ref: Ref) -> Any:
            return values[ref.index]

        fixed = fixed_symbols(self.mode)
        try:
            with enable_python_dispatcher():  # torch's own kernels keep sizes symbolic only under it
                found = call.run(read)
        except Exception as error:
            if self._is_known(node):
                return node.meta["val"]
            raise CaptureError(f"{where(node)} can't run on fake values: {type(error).__name__}: {error}") from error
        if more := fixed_symbols(self.mode) - fixed:
            raise Unsupported(f"{where(node)}: its kernel for fake values fixes {', '.join(sorted(more))} to a number")
        return found

    def module(self, node: fx.Node, module: torch.nn.Module, call: Call, values: Sequence[Any]) -> Any:
        """What a sub-module returns, its parameters and buffers replaced by fakes for the run; guards are not run."""
        if is_guards_module(module):
            return None
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        fakes = {name: self.constant(tensor) for name, tensor in state.items()}

        def run(*args: Any, **kwargs: Any) -> Any:
            return torch.func.functional_call(module, fakes, args, kwargs)

        return self.call(node, Call(run, call.args, call.kwargs), values)

    def _is_known(self, node: fx.Node) -> bool:
        """Whether the recorded fake value belongs to the mode this capture runs in."""
        if not self._has_graph_mode or "val" not in node.meta:
            return False
        leaves = pytree.tree_leaves(node.meta["val"])
        return all(leaf.fake_mode is self.mode for leaf in leaves if isinstance(leaf, FakeTensor))


def _mode_of(placeholders: Sequence[fx.Node]) -> FakeTensorMode | None:
    """The fake mode of the first fake placeholder, else one on the first symbolic integer's shape environment."""
    recorded = [node.meta[key] for node in placeholders for key in _SHAPE_KEYS if key in node.meta]
    for value in recorded:
        if isinstance(value, FakeTensor):
            return value.fake_mode
    for value in recorded:
        if isinstance(value, torch.SymInt):
            return FakeTensorMode(shape_env=value.node.shape_env)
    return None
