"""The backend with Inductor behind it: which of its variants is kept, its cache, and the models of the zoo."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
from builders import OUT, Linear, fq
from compiled import INT8, Given, compiled, perceptron, rows
from compiled import given as given
from compiled import start as start
from torch import fx

import qegraph
from qegraph import _dynamo, zoo
from qegraph.bench.accuracy import complaint, error, outputs
from qegraph.bench.counts import count, operator_name, total
from qegraph.compiling import tuned
from qegraph.coverage.parts import Net

TUNED = {"mode": "tuned", "kernels": "onednn"}


def gated() -> Net:
    """With pointwise code behind a linear, which a template runs with it."""
    return Net(lambda m, n, x: n(fq(m(fq(x)) * x[:, :16], OUT)), [Linear(), Linear(16, 8)])


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU had it, as far as variants are chosen by that."""
    monkeypatch.setattr(tuned, "adds_in_32_bits", lambda: True)


@pytest.mark.usefixtures("vnni")
def test_fastest_variant_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def compile_graph(module: fx.GraphModule, inputs: Sequence[Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
        if settings.get("max_autotune"):
            raise NotImplementedError("no such kernel")

        def call(*args: Any) -> Any:
            time.sleep(0.0 if settings.get("cpp_wrapper") else 0.005)
            return module(*args)

        return call

    monkeypatch.setattr(_dynamo, "compile_graph", compile_graph)
    model = gated()
    with caplog.at_level(logging.INFO, logger="qegraph"):
        b.agrees(model, compiled(model, {**INT8, **TUNED}), [rows()])  # pyright: ignore[reportArgumentType]
    assert "tuned: templates left out: NotImplementedError: no such kernel" in caplog.messages
    assert any(each.startswith("tuned: cpp_wrapper; default ") for each in caplog.messages)
    assert any(each.startswith("compiled: 2 linear: 2 int8") for each in caplog.messages)


@pytest.mark.parametrize("kernels", ["auto", "onednn"])
def test_models_with_the_same_weights_are_written_to_apart(kernels: str) -> None:
    """One is written to once it is compiled, and the other compiled after that, as it was."""
    model, x = perceptron(), rows()
    written = copy.deepcopy(model)
    with torch.no_grad():
        compiled(written, {**INT8, "kernels": kernels})(x)
        for each in (*written.parameters(), *written.buffers()):
            each.mul_(2)
        b.agrees(model, compiled(model, {**INT8, "kernels": kernels}), [x])  # pyright: ignore[reportArgumentType]


def test_without_vnni_templates_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Mapping[str, Any]] = []

    def compile_graph(module: fx.GraphModule, inputs: Sequence[Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
        tried.append(settings)
        return module

    monkeypatch.setattr(tuned, "adds_in_32_bits", lambda: False)
    monkeypatch.setattr(_dynamo, "compile_graph", compile_graph)
    model = gated()
    b.agrees(model, compiled(model, {**INT8, **TUNED}), [rows()])  # pyright: ignore[reportArgumentType]
    assert [each.get("cpp_wrapper", False) for each in tried] == [False, True]
    assert not any("max_autotune" in each for each in tried)


@pytest.mark.usefixtures("vnni")
def test_variant_that_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch, given: Given) -> None:
    """As Inductor's templates are for some linears: see tests/BUGS.md."""
    compile_graph = _dynamo.compile_graph

    def faulty(module: fx.GraphModule, inputs: Sequence[Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
        code = compile_graph(module, inputs, settings)
        if settings.get("max_autotune"):
            return lambda *args: [each + 1.0 for each in code(*args)]
        return lambda *args: (time.sleep(0.002), code(*args))[1]

    monkeypatch.setattr(_dynamo, "compile_graph", faulty)
    model = gated()
    with pytest.warns(UserWarning, match="tuned: Inductor's code is wrong and left out: templates"):
        b.agrees(model, compiled(model, {**INT8, **TUNED}), [rows()])  # pyright: ignore[reportArgumentType]


def _settings() -> dict[str, Any]:
    """Inductor's; passes of other packages are copied with them, and compare by kind."""
    from torch._inductor import config

    return {name: type(each) if callable(each) else each for name, each in config.get_config_copy().items()}


@pytest.mark.zoo
def test_inductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its cache on: other rules are another program, and what was compiled for the first is not found."""
    from torch._dynamo.utils import counters
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    seen: list[str] = []
    compile_graph = _dynamo.compile_graph

    def spy(module: fx.GraphModule, *more: Any) -> Any:
        seen.append(module.code)
        return compile_graph(module, *more)

    monkeypatch.setattr(_dynamo, "compile_graph", spy)
    model = perceptron()
    counters.clear()
    with config.patch(fx_graph_cache=True):
        before = _settings()
        for rules in (["default"], []):
            torch.compiler.reset()
            fast = compiled(model, {**INT8, "rules": rules})
            b.agrees(model, fast, [rows()])  # pyright: ignore[reportArgumentType]
        assert _settings() == before
    assert len(set(seen)) == 2
    assert counters["inductor"]["fxgraph_cache_hit"] == 0 and counters["aot_autograd"]["autograd_cache_hit"] == 0


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_no_contraction_is_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine full models with no flag set: what Inductor is given has a kernel for each quantized contraction, and the
    outputs are as near to the q/dq graph's as those of the graph run eagerly may be.
    """
    given: list[fx.GraphModule] = []
    compile_graph = _dynamo.compile_graph

    def spy(module: fx.GraphModule, *more: Any) -> Any:
        given.append(fx.GraphModule(module, fx.Graph(), "Given"))
        given[-1].graph.output(given[-1].graph.graph_copy(module.graph, {}))
        return compile_graph(module, *more)

    monkeypatch.setattr(_dynamo, "compile_graph", spy)
    model, inputs = zoo.load(name, "full")
    gm = zoo.quantize(model, inputs)
    fast = torch.compile(gm, backend=qegraph.backend)
    with torch.no_grad():
        fast(*inputs)
    report = qegraph.explain(fast)
    expected = [each for each in report.contractions if each.quantized]
    before = sum(_contraction_of_codes(node) for node in gm.graph.nodes)
    counts = total(map(count, given))
    assert report.floats() == () and len({each for one in expected for each in one.gemms}) >= before > 0
    assert counts.int8_gemms == len(expected)
    samples = zoo.draw(inputs, 4, 1)
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        oracle = outputs(gm, samples)
        ours, eager = (error(outputs(call, samples), oracle) for call in (fast, qegraph.optimize(gm)))
    assert complaint(ours, eager, "the graph run eagerly") is None


def _contraction_of_codes(node: fx.Node) -> bool:
    """A linear or convolution whose operands are both dequantized."""
    name = operator_name(node)
    return name in ("linear", "conv2d") and all("dequantize" in str(each.target) for each in node.all_input_nodes[:2])
