"""The benchmark: fair turns, one definition of a leftover, a gate that closes, and rivals that may crash."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import full_range
from torch import nn
from torch._inductor import config as inductor_config
from torch._inductor.decomposition import select_decomp_table
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from qegraph import cli, native, zoo
from qegraph.bench import BUILDERS, Counts, Result, Settings, Subject, count, measure, tables, to_json
from qegraph.bench.accuracy import Error, complaint, error
from qegraph.bench.compiled import first_calls
from qegraph.bench.counts import total
from qegraph.bench.subject import Built
from qegraph.machine import describe

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec:FutureWarning",  # torch's, when an exported module is copied
)


class Tiny(nn.Module):
    """Two linears with an activation: (2, 8) -> (2, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(x)))


@pytest.fixture(scope="module")
def subject() -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = Tiny().eval(), (torch.randn(2, 8),)
    return Subject(model, zoo.quantize(model, inputs), inputs)


def _measure(subject: Subject, *variants: str) -> Result:
    return measure("tiny", subject, Settings(rounds=2, samples=3, variants=variants), lambda _: None)


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(0, 6),
    "clamp_min": lambda x: x.clamp(min=0),
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid_mul": lambda x: x * x.sigmoid(),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_an_activation_counts_once_in_every_spelling(name: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return _ACTIVATIONS[name](x)

    x = torch.randn(3, 4)
    whole = make_fx(function, tracing_mode="fake")(x)
    decomposed = make_fx(function, select_decomp_table(), tracing_mode="fake")(x)
    symbolic = torch.fx.symbolic_trace(function)
    assert [count(each).activations for each in (whole, decomposed, symbolic)] == [1, 1, 1]


_OTHERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: F.softmax(x, -1),
    "exp": lambda x: x.exp() + 1,
    "integer clamp": lambda x: x.to(torch.uint8).clamp(0, 6),
}


@pytest.mark.parametrize("name", _OTHERS)
def test_what_is_no_float_activation_is_not_counted(name: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return _OTHERS[name](x)

    graph = make_fx(function, select_decomp_table(), tracing_mode="fake")(torch.randn(3, 4))
    assert count(graph).activations == 0


def test_module_calls_count() -> None:
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Linear(4, 4), nn.SiLU()))
    assert count(graph) == Counts(nodes=4, activations=2, float_gemms=2)


def test_q_dq_graph_counts(subject: Subject) -> None:
    counts = count(subject.quantized)
    assert (counts.quantize, counts.dequantize, counts.activations, counts.float_gemms) == (2, 4, 1, 2)
    assert counts.leftovers == 7
    assert total([counts, counts]).leftovers == 14


def test_routes_are_counted_and_compared(subject: Subject) -> None:
    before = torch.get_num_threads()
    result = _measure(subject, "torchao", "inductor")
    assert torch.get_num_threads() == before
    assert not inductor_config.freezing
    for name in ("torchao", "inductor"):
        outcome = result.outcomes[name]
        assert outcome.crash is None and outcome.counts and outcome.error
        assert (outcome.counts.int8_gemms, outcome.counts.float_gemms, outcome.counts.activations) == (2, 0, 0)
        assert outcome.counts.quantize == 1, "only the input's quantize is left"
        assert outcome.error.maximum < 0.1 * outcome.error.scale
    oracle = result.outcomes["qdq"].error
    assert oracle and oracle.maximum == 0.0
    assert result.ratio("torchao", "qegraph") is None


@pytest.mark.parametrize("name", ["qegraph", "native"])
def test_measured_costs_say_whose_form_won(subject: Subject, name: str) -> None:
    if name == "native" and (reason := native.unavailable()):
        pytest.skip(reason)
    outcomes = _measure(subject, name, f"{name}-measured").outcomes
    assert "fastest: the form for " in str(outcomes[f"{name}-measured"].note) and outcomes[name].note is None


def test_without_native_kernels_their_variants_are_left_out(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable", lambda: "no compiler")
    result = _measure(subject, "native")
    assert result.outcomes["native"].skipped == "no compiler" and not result.failures


def test_a_crash_is_a_row_for_others_and_a_failure_for_us(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Subject) -> Built:
        raise RuntimeError("no\nkernel")

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, "torchao": crash, "qegraph": crash})
    result = _measure(subject, "torchao", "qegraph")
    assert result.outcomes["torchao"].crash == "RuntimeError: no kernel"
    assert result.failures == ("qegraph crashed: RuntimeError: no kernel",)
    made = tables([result], Settings(variants=("torchao", "qegraph")))
    assert made[-1].rows == tuple(("tiny", name, "RuntimeError: no kernel") for name in ("torchao", "qegraph"))


def test_a_variant_that_lost_its_compiled_code_is_not_timed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(given: Subject) -> Built:
        torch.compiler.reset()
        return Built(given.quantized, Counts(), 0.0)

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, "qegraph": reset})
    outcome = _measure(subject, "inductor", "qegraph").outcomes["inductor"]
    assert outcome.timing is None
    assert outcome.crash and "Detected recompile" in outcome.crash


def test_a_wrong_result_fails_the_benchmark(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(given: Subject) -> Built:
        return Built(lambda *inputs: given.quantized(*inputs) * 1.01, Counts(), 0.0)

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, "qegraph": wrong})
    (failure,) = _measure(subject, "torchao", "qegraph").failures
    assert failure.startswith("qegraph: max error")


def test_error_and_complaint() -> None:
    oracle = [[torch.tensor([1.0, -4.0])]]
    found = error([[torch.tensor([1.5, -4.0])]], oracle)
    assert found == Error(maximum=0.5, mean=0.25, scale=4.0)
    assert error([[torch.tensor([float("nan"), -4.0])]], oracle).maximum == float("inf")
    assert complaint(found, Error(0.34, 0.17, 4.0), "x") is None
    assert "max error" in (complaint(found, Error(0.3, 0.17, 4.0), "x") or "")
    assert "mean error" in (complaint(found, Error(0.34, 0.1, 4.0), "x") or "")
    assert complaint(Error(3e-5, 1e-6, 4.0), Error(0.0, 0.0, 4.0), "x") is None
    with pytest.raises(ValueError, match="output shape"):
        error([[torch.zeros(3)]], oracle)


def test_tables_and_json_hold_ratios(subject: Subject) -> None:
    settings = Settings(variants=("torchao",), rounds=2)
    results = [_measure(subject, "torchao")] * 2
    speed, graphs, errors, float_errors = tables(results, settings)
    assert speed.header[:4] == ("model", "fp32", "qdq", "torchao")
    assert speed.rows[0][:2] == ("tiny", "1.00")
    assert speed.rows[-1][0] == "geometric mean"
    assert graphs.rows[0][2] == "1 = 1+0+0"
    assert errors.header == float_errors.header == ("model", "qdq", "torchao")
    assert errors.rows[0][1] == "0.0e+00 (0.0e+00)"
    assert float_errors.rows[0][1] != errors.rows[0][1], "quantizing isn't exact"
    written = json.loads(json.dumps(to_json(results, settings, describe(1))))
    assert written["models"][0]["outcomes"]["torchao"]["leftovers"] == 1
    assert written["machine"]["threads"] == 1


def test_ratios_are_of_pairs_that_were_asked_for(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(given: Subject) -> Built:
        return Built(lambda *inputs: [given.model(*inputs), given.model(*inputs)][0], None, 3.0, "twice")

    def once(given: Subject) -> Built:
        return Built(given.model, None, 6.0)

    builders = {**BUILDERS, "openvino": twice, "inductor": twice, "backend": once}
    monkeypatch.setattr("qegraph.bench.run.BUILDERS", builders)
    settings = Settings(variants=("openvino", "inductor", "backend"), rounds=5)
    result = measure("tiny", subject, settings, lambda _: None)
    ratios, chosen = tables([result], settings)[1], tables([result], settings)[-1]
    assert ratios.header == ("model", "inductor / backend", "openvino / backend", "seconds: backend / inductor")
    assert ratios.rows[0][-1] == "2.00"
    assert all(float(each) > 1.2 for each in ratios.rows[0][1:-1])
    assert chosen.rows == (("tiny", "inductor", "twice"), ("tiny", "openvino", "twice"))
    assert result.outcomes["openvino"].error is None, "it doesn't run the q/dq graph"
    against = result.outcomes["openvino"].float_error
    assert against and against.maximum == 0.0


def test_builds_take_turns_and_their_median_counts(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    took = {"inductor": [9.0, 1.0, 2.0], "backend": [4.0, 30.0, 5.0]}

    def builder(name: str) -> Callable[[Subject], Built]:
        def build(given: Subject) -> Built:
            order.append(name)
            return Built(given.quantized, None, took[name][order.count(name) - 1])

        return build

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, **{name: builder(name) for name in took}})
    settings = Settings(rounds=1, samples=1, variants=tuple(took), builds=3)
    result = measure("tiny", subject, settings, lambda _: None)
    assert order == ["inductor", "backend"] * 3
    assert result.compile_ratio("backend", "inductor") == 5.0 / 2.0


def test_a_build_that_crashes_the_second_time_is_a_crash(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def build(given: Subject) -> Built:
        order.append("inductor")
        if len(order) > 1:
            raise RuntimeError("not again")
        return Built(given.quantized, None, 1.0)

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, "inductor": build})
    settings = Settings(rounds=1, samples=1, variants=("inductor",), builds=3)
    outcome = measure("tiny", subject, settings, lambda _: None).outcomes["inductor"]
    assert "not again" in (outcome.crash or "") and outcome.timing is None
    assert len(order) == 2


@pytest.mark.parametrize("peer", ["openvino", "onnxruntime"])
def test_what_is_not_installed_is_left_out_with_a_note(
    peer: str, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, peer, None)
    result = _measure(subject, peer, "torchao")
    outcome = result.outcomes[peer]
    assert outcome.skipped and "pip install 'qegraph[peers]'" in outcome.skipped
    assert outcome.crash is None and not result.failures
    assert result.outcomes["torchao"].timing
    (left_out,) = tables([result], Settings(variants=(peer, "torchao")))[-1:]
    assert left_out.rows == (("tiny", peer, outcome.skipped),)


@full_range
def test_peers_quantize_the_float_module_and_leave_the_process_as_it_was(subject: Subject) -> None:
    for package in ("openvino", "nncf", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the extra `peers` isn't installed")

    def state() -> tuple[object, ...]:
        random_states = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
        return *random_states, torch.get_num_threads(), logging.root.level, logging.root.manager.disable

    before = state()
    result = _measure(subject, "openvino", "onnxruntime")
    assert state() == before
    for peer in ("openvino", "onnxruntime"):
        outcome = result.outcomes[peer]
        assert outcome.crash is None and outcome.skipped is None and outcome.timing
        assert outcome.float_error
        assert 0.0 < outcome.float_error.maximum < 0.1 * outcome.float_error.scale, "quantized, but not broken"


def test_tunings_are_no_default_and_the_best_is_named(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"inductor-tuned", "backend-tuned", "inductor-package", "package"} & {*Settings().wanted()}
    tunings: dict[str, dict[str, object]] = {"broken": {"cpp.threads": "none"}, "plain": {}}
    monkeypatch.setattr("qegraph.bench.compiled._TUNINGS", tunings)
    outcome = _measure(subject, "inductor-tuned").outcomes["inductor-tuned"]
    assert outcome.crash is None and outcome.counts
    assert (outcome.note, outcome.counts.int8_gemms) == ("plain", 2)


def test_a_tuning_that_is_wrong_is_not_the_best(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False])
    monkeypatch.setattr("qegraph.bench.compiled._TUNINGS", {"fast": {}, "right": {}})
    monkeypatch.setattr("qegraph.bench.compiled.is_wrong", lambda *_: next(verdicts))
    assert _measure(subject, "inductor-tuned").outcomes["inductor-tuned"].note == "right; wrong: fast"


def test_compiling_is_timed_from_an_empty_cache(subject: Subject) -> None:
    folders: list[str] = []

    def compiler(*_: torch.Tensor) -> None:
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
        assert len(folders) % 2 == 0 or not any(Path(folders[-1]).iterdir())

    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    assert first_calls(compiler, subject) > 0.0
    assert first_calls(compiler, subject) > 0.0
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before
    assert folders[0] == folders[1] != folders[2] == folders[3] != before


def test_cli_explains_unknown_names_and_a_missing_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["bench", "resnet81"]) == 2
    assert "resnet18" in capsys.readouterr().err
    assert cli.main(["bench", "--variants", "tvm"]) == 2
    assert "inductor" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e.quantize_pt2e", None)
    assert cli.main(["bench", "resnet18", "--size", "small"]) == 2
    assert "pip install 'qegraph[bench]'" in capsys.readouterr().err


def test_cli_bench_writes_json_and_fails_loudly(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> tuple[nn.Module, zoo.Inputs]:
        return subject.model, subject.inputs

    def quantize(*_: object, **__: object) -> GraphModule:
        return subject.quantized

    monkeypatch.setattr(zoo, "load", load)
    monkeypatch.setattr(zoo, "quantize", quantize)
    path = tmp_path / "bench.json"
    command = ["bench", "resnet18", "--variants", "torchao", "--rounds", "1", "--samples", "1", "--json", str(path)]
    assert cli.main(command) == 0
    assert json.loads(path.read_text())["settings"]["rounds"] == 1
    assert "thread(s)" in capsys.readouterr().out

    def crash(_: Subject) -> Built:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("qegraph.bench.run.BUILDERS", {**BUILDERS, "qegraph": crash})
    assert cli.main(["bench", "resnet18", "--variants", "qegraph", "--rounds", "1", "--samples", "1"]) == 1
    assert "FAILED resnet18: qegraph crashed" in capsys.readouterr().err


def test_demo_explains_checks_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--size", "small"]) == 0
    out = capsys.readouterr().out
    for part in ("ms per node", "int8 conv", "top-1 agrees", "Speed-up over the q/dq graph"):
        assert part in out
