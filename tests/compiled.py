"""Models for the backend of `torch.compile`, and the graphs that it hands over in the place of Inductor's code."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, Linear, fq
from torch import Tensor, fx, nn

import qegraph
from qegraph import _dynamo
from qegraph.coverage.parts import Net

INT8: dict[str, Any] = {"cost": b.int8_first}


@pytest.fixture(autouse=True)
def start() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


_KERNEL = re.compile(r"^(?:onednn|qegraph)\.(qlinear|qconv)")


@dataclass
class Given:
    """What Inductor was given, in order."""

    modules: list[fx.GraphModule] = field(default_factory=list[fx.GraphModule])
    settings: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def kinds(self) -> list[list[str]]:
        """Of int8 kernels, whoever's operators call them."""
        return [
            [name for node in each.graph.nodes for name in _KERNEL.findall(str(node.target))] for each in self.modules
        ]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """In the place of Inductor: the graph itself."""
    seen = Given()

    def compile_graph(module: fx.GraphModule, inputs: Sequence[Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
        assert len(inputs) == len(module.graph.find_nodes(op="placeholder"))
        seen.modules.append(module)
        seen.settings.append(settings)
        return module

    monkeypatch.setattr(_dynamo, "compile_graph", compile_graph)
    return seen


def compiled(model: nn.Module, options: dict[str, Any] | None = None, **more: Any) -> Any:
    return torch.compile(model, backend=qegraph.backend, options=INT8 if options is None else options, **more)


def perceptron() -> Net:
    return Net(lambda m, n, x: n(fq(F.relu(m(fq(x))), OUT)), [Linear(), Linear(16, 8)])


def rows(count: int = 5) -> Tensor:
    return torch.randn(count, 24)
