"""One process may optimise and compile as often as it likes: nothing of an earlier time is held."""

from __future__ import annotations

import gc
import linecache
from collections import Counter
from collections.abc import Callable, Generator

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, Conv, Linear, fq, net, q
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import qegraph
from qegraph import packing, zoo
from qegraph.engine import Engine
from qegraph.fuzz.forms import int8_first
from qegraph.memory import resident
from qegraph.program import Program
from qegraph.search import Search

WATCHED = (fx.GraphModule, FakeTensor, FakeTensorMode, Engine, Program, Search, packing.PackedWeight, qegraph.Report)
FLAT = 8.0
"""MiB by which a process may differ after a hundred times: an e-graph alone is some."""


def held() -> Counter[str]:
    """How many there are of what an optimisation makes, and of what we remember by name."""
    gc.collect()
    for method in vars(ShapeEnv).values():  # torch keeps the last 256 of these for each of its methods
        if hasattr(method, "cache_clear"):
            method.cache_clear()
    gc.collect()
    kinds = (next((kind for kind in WATCHED if issubclass(type(each), kind)), None) for each in gc.get_objects())
    found = Counter(kind.__name__ for kind in kinds if kind is not None)
    found["packed weights"] = len(packing._PACKED)  # pyright: ignore[reportPrivateUsage]
    found["compiled graphs"] = len(qegraph.compiled_reports())
    return found


def linears() -> fx.GraphModule:
    return net(lambda m, n, x: q(F.relu(m(fq(x)) + n(fq(x))), OUT), [Linear(), Linear()], [torch.randn(4, 24)])


def optimised() -> Callable[[], object]:
    """The same graph, again and again."""
    gm = linears()
    return lambda: qegraph.optimize(gm, cost=int8_first, verify=True)(torch.randn(4, 24))


def exported() -> Callable[[], object]:
    """Another graph and other weights each time."""
    return lambda: qegraph.optimize(linears(), cost=int8_first)(torch.randn(4, 24))


def refused() -> Callable[[], object]:
    """What ends in an error leaves nothing either."""
    gm = linears()
    node = next(node for node in gm.graph.nodes if "quantize_per_tensor" in str(node.target))
    node.args = (node.args[0], 0.0, *node.args[2:])

    def call() -> None:
        with pytest.raises(qegraph.CaptureError):
            qegraph.optimize(gm)

    return call


def explored() -> Callable[[], object]:
    gm = linears()
    return lambda: qegraph.explore(gm).choices("linear")


ROUTES = {"optimize": optimised, "export and optimize": exported, "refuse": refused, "explore": explored}


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_held(route: str) -> None:
    call = ROUTES[route]()
    call()
    before = held()
    for _ in range(3):
        call()
    assert held() == before


@pytest.fixture
def compiler() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(model: torch.nn.Module) -> None:
    with torch.no_grad():
        torch.compile(model, backend=qegraph.backend, options={"cost": int8_first, "kernels": "onednn"})(
            torch.randn(5, 24)
        )


def perceptron() -> b.Net:
    return b.Net(lambda m, n, x: n(fq(F.relu(m(fq(x))), OUT)), [Linear(), Linear(16, 8)])


@pytest.mark.usefixtures("compiler")
def test_compiled_graphs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Inductor's code the graph itself runs."""
    monkeypatch.setattr("qegraph._dynamo.compile_graph", lambda module, *_: module)
    model = perceptron()

    def call() -> None:
        for each in (model, perceptron()):
            compiled(each)
        torch.compiler.reset()

    others = held()["compiled graphs"]  # of tests before
    call()
    before = held()
    for _ in range(3):
        call()
    assert held() == before and before["compiled graphs"] <= others


@pytest.mark.zoo
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("is_same", [True, False])
def test_recompiling_does_not_accumulate(is_same: bool) -> None:
    model = perceptron()

    def call() -> None:
        compiled(model if is_same else perceptron())
        torch.compiler.reset()

    for _ in range(3):
        call()
    before = held()
    for _ in range(12):
        call()
    assert held() == before


@pytest.mark.zoo
def test_two_hundred_optimisations_hold_memory_flat() -> None:
    """Resident memory, once what is loaded on first use is there. The sources of generated code, which torch.fx keeps
    for tracebacks of every graph that ever was, are in it.
    """
    model, inputs = zoo.load("resnet18", "small")
    models = [linears(), zoo.quantize(model, inputs), net(lambda m, x: m(fq(x)), [Conv()], [b.image()])]
    sizes: list[float] = []
    for number in range(200):
        qegraph.optimize(models[number % 3], cost=int8_first)
        if number in (99, 199):
            gc.collect()
            linecache.clearcache()
            sizes.append(resident())
        if number == 20:
            before = held()
    assert held() == before  # pyright: ignore[reportPossiblyUnboundVariable]
    assert sizes[1] - sizes[0] < FLAT, sizes
