"""The coverage matrix: every verdict can be reached, a lost process costs one cell, and ours are never wrong."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from qegraph import cli
from qegraph.bench import Counts, Subject, count
from qegraph.bench.subject import Built
from qegraph.coverage import NAMES, OURS, ROUTES, Cell, Left, Outcome, Settings, Verdict, cells, failures, judge, spread
from qegraph.coverage.cell import Made
from qegraph.coverage.contract import disagreement, less_exact
from qegraph.coverage.parts import Linear, Net, fq, rows
from qegraph.coverage.table import summary, table
from qegraph.coverage.truth import truth
from qegraph.coverage.worker import BROKEN, Worker
from qegraph.errors import QegraphError

Run = Callable[..., object]


def _made(dtype: torch.dtype = torch.float32) -> Made:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        h = F.relu(m(fq(x)))
        return h if dtype == h.dtype else h.to(dtype)

    return Net(function, [Linear()]), (rows(2),)


CELL = Cell("T1", "linear, relu", _made, Left())


def _engine(wrap: Callable[[GraphModule], Run]) -> Callable[[Subject], Built]:
    def build(subject: Subject) -> Built:
        return Built(wrap(subject.copy()), count(subject.quantized), 0.0)

    return build


def _crash(_: GraphModule) -> Run:
    raise RuntimeError("no\nkernel")


def _overwrites(gm: GraphModule) -> Run:
    def run(x: Tensor) -> object:
        result = gm(x)
        x.zero_()
        return result

    return run


def _remembers(gm: GraphModule) -> Run:
    calls: list[None] = []

    def run(x: Tensor) -> object:
        calls.append(None)
        return gm(x) if len(calls) == 1 else torch.zeros_like(gm(x))

    return run


def _reuses(gm: GraphModule) -> Run:
    kept: list[Tensor] = []

    def run(x: Tensor) -> Tensor:
        for old in kept:
            old.zero_()
        kept.append(gm(x))
        return kept[-1]

    return run


ENGINES: dict[str, tuple[Callable[[GraphModule], Run], Verdict, str]] = {
    "nothing fused": (lambda gm: gm, Verdict.FLOAT, "1 float GEMM"),
    "1 % off": (lambda gm: lambda x: gm(x) * 1.01, Verdict.WRONG, "off by"),
    "other dtype": (lambda gm: lambda x: gm(x).double(), Verdict.WRONG, "float64"),
    "other shape": (lambda gm: lambda x: gm(x)[:1], Verdict.WRONG, "wanted"),
    "one output more": (lambda gm: lambda x: [gm(x), x], Verdict.WRONG, "2 outputs instead of 1"),
    "not a number": (lambda gm: lambda x: gm(x) * float("nan"), Verdict.WRONG, "the second call differs"),
    "writes its input": (_overwrites, Verdict.WRONG, "an input was overwritten"),
    "changes its mind": (_remembers, Verdict.WRONG, "the second call differs"),
    "reuses its output": (_reuses, Verdict.WRONG, "overwrote the first one's result"),
    "raises": (_crash, Verdict.CRASH, "RuntimeError: no kernel"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_verdicts(name: str) -> None:
    wrap, verdict, reason = ENGINES[name]
    outcome = judge(CELL, name, _engine(wrap))
    assert outcome.verdict == verdict and reason in outcome.reason


def test_ours_is_fused_and_no_more_is_asked_where_no_kernel_is_able() -> None:
    assert judge(CELL, OURS, ROUTES[OURS].build) == Outcome("T1", CELL.name, OURS, Verdict.FUSED)
    unable = Cell("T1", "unable", _made, None)
    assert judge(unable, "none", _engine(lambda gm: gm)).verdict == Verdict.RIGHT
    assert judge(unable, "none", _engine(ENGINES["1 % off"][0])).verdict == Verdict.WRONG


def test_a_cell_that_cannot_be_made_is_nobodys_crash() -> None:
    def broken() -> Made:
        raise KeyError("spelling")

    with pytest.raises(KeyError):
        judge(Cell("T1", "broken", broken, None), OURS, ROUTES[OURS].build)


def test_half_precision_is_judged_by_the_exact_result() -> None:
    half = Cell("T1", "half", partial(_made, torch.bfloat16), None, "bf16")
    assert judge(half, "none", _engine(lambda gm: gm)).verdict == Verdict.RIGHT
    outcome = judge(half, "none", _engine(lambda gm: lambda x: (gm(x) * 1.05).to(torch.bfloat16)))
    assert outcome.verdict == Verdict.WRONG and "the unfused graph's" in outcome.reason
    assert judge(half, "none", _engine(lambda gm: lambda x: gm(x).float())).verdict == Verdict.WRONG


def test_truth_is_in_float64() -> None:
    module = nn.Linear(8, 4).bfloat16()
    x = torch.randn(3, 8).bfloat16()
    (exact,) = truth(Net(lambda m, x: m(x).to(torch.float16), [module]), (x,))
    weight, bias = module.weight.double(), module.bias.double()
    assert exact.dtype == torch.float64 and torch.equal(exact, F.linear(x.double(), weight, bias))


def test_contract() -> None:
    codes = torch.zeros(30_000, dtype=torch.uint8)
    for differing, fine in ((1, True), (3, True), (4, False)):
        other = codes.clone()
        other[:differing] = 1
        assert (disagreement(codes, other) is None) == fine
    assert "2 LSB" in (disagreement(codes[:1], codes[:1] + 2) or "")
    one = torch.tensor([1.0, -4.0])
    assert disagreement(one, one + 3e-5) is None and disagreement(one, one + 5e-5)
    assert disagreement(one, one * float("nan"))
    exact = [torch.tensor([1.0], dtype=torch.float64)]
    assert less_exact(exact, [torch.tensor([1.01])], [torch.tensor([0.99])]) is None
    assert less_exact(exact, [torch.tensor([1.01])], [torch.tensor([0.98])])


def test_what_is_left() -> None:
    assert Left().excess(Counts(int8_gemms=3, quantize=1)) == ""
    assert Left(gemms=1).excess(Counts(int8_gemms=3, quantize=2)) == "2 quantize (at most 1), 3 kernel (at most 1)"

    def function(x: Tensor, y: Tensor) -> Tensor:
        return (x.to(torch.bfloat16).float() + 1) * (y + 2)

    counts = count(make_fx(function, tracing_mode="fake")(torch.randn(3), torch.arange(3)))
    assert counts == Counts(nodes=5, arithmetic=4), "all but the sum of integers"


def _script(text: str, deadline: float = 60.0) -> Worker:
    """A worker whose process runs `text` in place of an engine."""
    return Worker("none", deadline, (sys.executable, "-c", text))


def test_a_lost_process_is_one_crash() -> None:
    with _script("import os; input(); os.abort()") as worker:
        for _ in range(2):
            outcome = worker.judge(CELL)
            assert outcome.verdict == Verdict.CRASH and "exit code -6" in outcome.reason


def test_a_process_that_hangs_is_a_crash() -> None:
    with _script("import time; time.sleep(60)", deadline=0.5) as worker:
        assert worker.judge(CELL).verdict == Verdict.CRASH


def test_a_process_that_was_wrong_is_replaced() -> None:
    text = "import json, os, sys\nfor _ in sys.stdin: print(json.dumps(['wrong', str(os.getpid())]), flush=True)"
    with _script(text) as worker:
        first, again = worker.judge(CELL), worker.judge(CELL)
        worker.refresh()
        assert first.verdict == Verdict.WRONG and first == again != worker.judge(CELL)


def test_a_broken_cell_is_an_error() -> None:
    with _script(f'input(); print(\'["{BROKEN}", "why"]\')') as worker, pytest.raises(QegraphError, match="why"):
        worker.judge(CELL)


def test_cells_have_names_and_a_sample_has_every_family() -> None:
    every = cells()
    assert len({(cell.family, cell.name) for cell in every}) == len(every) > 500
    assert {cell.family for cell in every} == set(NAMES)
    sample = spread(every, 80, seed=0)
    assert len(sample) == 80 and {cell.family for cell in sample} == set(NAMES)
    assert sample == spread(every, 80, seed=0) != spread(every, 80, seed=1)
    slow, fast = ROUTES["inductor"], ROUTES["torchao"]
    assert len(Settings().chosen(slow, every)) == 80 and Settings().chosen(fast, every) == every
    assert len(Settings(sample=60).chosen(fast, every)) == 60
    assert Settings(everything=True).chosen(slow, every) == every


def test_table_and_summary_hold_every_route() -> None:
    name = cells(["F4"])[0].name
    settings = Settings(("F4",))
    outcomes = [
        Outcome("F4", name, OURS, Verdict.FUSED),
        Outcome("F4", "other", OURS, Verdict.FLOAT, "1 quantize"),
        Outcome("F4", name, "torchao", Verdict.WRONG, "off"),
    ]
    made = table(outcomes, settings)
    assert made.header[-3:] == tuple(ROUTES)
    assert made.rows[0][-3:] == ("1 fused, 1 left float", "1 wrong", "")
    assert "torchao's lowering, eager (1 of 10 cells, seed 0): 1 wrong" in summary(outcomes, settings)
    assert failures(outcomes) == [outcomes[1]]


def test_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coverage.json"
    assert cli.main(["coverage", "--family", "D8", "--no-rivals", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert "2 right" in captured.out and "qegraph: D8 done" in captured.err
    written = json.loads(path.read_text())
    assert [cell["routes"][OURS]["verdict"] for cell in written["cells"]] == ["right"] * 2
    assert cli.main(["coverage", "--family", "F99"]) == 2
    assert "F33" in capsys.readouterr().err


def _bad(chosen: list[Cell]) -> list[str]:
    outcomes = [judge(cell, OURS, ROUTES[OURS].build) for cell in chosen]
    bad = (Verdict.WRONG, Verdict.CRASH)
    return [f"{each.family} {each.cell}: {each.reason}" for each in outcomes if each.verdict in bad]


def test_sample_is_never_wrong_and_never_crashes() -> None:
    assert _bad(spread(cells(), 40, seed=0)) == []


@pytest.mark.zoo
@pytest.mark.parametrize("name", NAMES)
def test_family_is_never_wrong_and_never_crashes(name: str) -> None:
    assert _bad(cells([name])) == []
