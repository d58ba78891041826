"""Costs measured on the running machine: kept, shared between processes, and never trusted blindly."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

import pytest
import torch
from builders import checked, full_range, net
from torch import fx

import qegraph
from qegraph import cli, zoo
from qegraph.bench import describe
from qegraph.bench.fidelity import rank_correlation
from qegraph.capture import capture
from qegraph.cost import DEFAULTS, PER_THREAD, Rates
from qegraph.coverage.parts import IN, OUT, Linear, fq, q
from qegraph.inputs import inputs_of
from qegraph.machine import FOLDER
from qegraph.pricing import estimates
from qegraph.search import search
from qegraph.tuning import Store, calibrate
from qegraph.tuning.measuring import keys_of, times_of
from qegraph.tuning.profile import profile
from qegraph.tuning.race import interval, race
from qegraph.tuning.ways import Ways, beside


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return Store.here(torch.get_num_threads())


def model(width: int = 64) -> tuple[fx.GraphModule, list[torch.Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(width // 8, width)
    gm = net(lambda m, n, x: q(n(fq(m(fq(x, IN)), IN)), OUT), [Linear(width, width), Linear(width, 32)], [x])
    return gm, [x]


def test_second_run_measures_nothing(store: Store) -> None:
    gm, inputs = model()
    first = qegraph.optimize(gm, cost="measured")
    known = store.read().times
    second = qegraph.optimize(gm, cost="measured")
    assert known and store.read().times == known
    assert ", 0 kernels of them now" in qegraph.explain(second).prices
    assert first.code == second.code
    assert torch.equal(first(*inputs), gm(*inputs))


def _dear(gm: fx.GraphModule, store: Store) -> dict[str, float]:
    """The int8 kernels that were timed, after another optimisation."""
    qegraph.optimize(gm, cost="measured")
    return {key: 1e6 for key in store.read().times if key.startswith("QGemm")}


@full_range
def test_what_was_measured_decides(store: Store) -> None:
    gm, _ = model(512)  # int8 is the likelier choice, so that it is timed
    dear: dict[str, float] = {}
    while len(dear) < len(dear := _dear(gm, store)):  # what is dear has others timed in its place
        store.update(times=dear, winners=dict.fromkeys(store.read().winners, "100% measured"))
    assert dear
    report = qegraph.explain(qegraph.optimize(gm, cost="measured"))
    assert len(report.floats()) == 2
    assert all("cost model finds float cheaper" in each.reason for each in report.floats())


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """Calls that take about so many seconds, by a clock that only they move: 5 % more or less each time."""
    now, noise = [0.0], random.Random(0)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def takes(seconds: float) -> Callable[[], None]:
        def call() -> None:
            now[0] += seconds * noise.lognormvariate(0.0, 0.05)

        return call

    return takes


@pytest.mark.parametrize(
    ("others", "fastest"),
    [({}, "mine"), ({"level": 1.0}, "mine"), ({"slow": 2.0, "fast": 0.97, "faster": 0.94}, "faster"),
     ({"slower": 1.03, "hardly faster": 0.99}, "mine"), ({f"level {i}": 1.0 for i in range(20)}, "mine"),
     ({**{f"level {i}": 1.0 for i in range(20)}, "faster": 0.96}, "faster")],
)  # fmt: skip
def test_a_challenger_must_surely_be_faster(
    others: dict[str, float], fastest: str, takes: Callable[[float], Callable[[], None]]
) -> None:
    calls = {name: takes(seconds) for name, seconds in {"mine": 1.0, **others}.items()}
    assert race("mine", calls, seconds=3000.0) == fastest


def test_ways_to_price() -> None:
    ways = Ways(DEFAULTS, lambda rates: [rates.conv_call, math.inf, 0.0], [100.0, None, None])
    call = DEFAULTS.conv_call
    for name, cost in {
        "estimated": call, "100% measured": 100.0, "50% measured": math.sqrt(100.0 * call),
        "estimated, conv_call x4": 4 * call, "100% measured, conv_call x4, view x0.25": 100.0,
    }.items():  # fmt: skip
        assert ways.costs(name) == pytest.approx([cost, math.inf, 0.0], abs=1e-3) and ways.knows(name)
    for name in ("", "shaken 2", "estimated, nothing x4", "estimated, on x4", "estimated, conv_call"):
        assert not ways.knows(name)
    others = list(beside("estimated, conv_call x4"))
    assert "25% measured, conv_call x4" in others and "estimated, conv_call x4, view x0.25" in others
    assert len(others) == len(set(others)) == 4 + 2 * (len(fields(Rates)) - 1)


def test_a_race_ends_in_time(takes: Callable[[float], Callable[[], None]]) -> None:
    calls = {str(i): takes(1.0) for i in range(50)}
    race("0", calls, seconds=600.0)
    assert time.perf_counter() < 600 + 2 * 50 + 20  # they are warmed up before, and no round is broken off


def test_a_race_of_slow_forms_is_decided(takes: Callable[[float], Callable[[], None]]) -> None:
    """Half of the time is the final's, however many forms there are."""
    calls = {str(i): takes(1.0) for i in range(12)}
    assert race("0", {**calls, "faster": takes(0.7)}, seconds=100.0) == "faster"


def test_interval_of_a_median() -> None:
    """Of a thousand samples of 100, about one in a hundred leaves the true median out."""
    noise = random.Random(0)
    missed = 0
    for _ in range(1000):
        low, high = interval([noise.expovariate(1.0) for _ in range(100)])
        missed += not low <= math.log(2) <= high
    assert 1 <= missed <= 20
    assert interval([3.0, 1.0, 2.0]) == (0.0, math.inf)
    assert interval([3.0, 1.0] * 4) == (1.0, 3.0)


def test_measuring_leaves_no_trace(store: Store) -> None:
    gm, inputs = model()
    code, before = gm.code, [x.clone() for x in inputs]
    qegraph.optimize(gm, cost="measured")
    assert gm.code == code and all(map(torch.equal, inputs, before))


def test_graph_that_cannot_be_run_is_estimated(store: Store) -> None:
    def picky(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not in the mood")

    gm, _ = model()
    node = next(n for n in gm.graph.nodes if n.op == "placeholder")
    with gm.graph.inserting_after(node):
        call = gm.graph.call_function(picky, (node,))
        call.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    gm.recompile()
    with pytest.warns(UserWarning, match="nothing could be measured"):
        fast = qegraph.optimize(gm, cost="measured")
    assert "nothing could be measured" in qegraph.explain(fast).prices


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "rates": 3, "times": {}}', "\0\1\2",
                                  '{"format": 1, "rates": null, "times": {"a": -1}}',
                                  '{"format": 1, "rates": null, "times": {"a": "fast"}}'])  # fmt: skip
def test_corrupt_file_is_ignored_and_written_anew(store: Store, text: str) -> None:
    store.path.parent.mkdir(parents=True, exist_ok=True)
    store.path.write_text(text)
    with pytest.warns(UserWarning, match="can't be read and is ignored"):
        assert store.read().times == {}
    with pytest.warns(UserWarning, match="can't be read and is ignored"):
        store.update(times={"a": 1.0})
    assert store.read().times == {"a": 1.0}


def test_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(describe(1), tmp_path / "file")
    with pytest.warns(UserWarning, match="can't be kept"):
        store.update(times={"a": 1.0})


def test_unknown_fields_and_missing_ones(store: Store) -> None:
    """A file of another version: what it knows is used."""
    store.update(rates=replace(DEFAULTS, view=7.0))
    data = json.loads(store.path.read_text())
    data["rates"]["of_the_future"] = 1.0
    del data["rates"]["conv_call"]
    store.path.write_text(json.dumps(data))
    assert store.read().rates == replace(DEFAULTS, view=7.0)


def _add(folder: str, name: str) -> None:
    store = Store(describe(1), Path(folder))
    for i in range(20):
        store.update(times={f"{name}{i}": 1.0})


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(str(tmp_path), name)) for name in "ab"]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert len(Store(describe(1), tmp_path).read().times) == 40
    assert [name for name in os.listdir(tmp_path) if not name.endswith((".json", ".lock"))] == []


def test_files_are_told_apart(tmp_path: Path) -> None:
    one = describe(1)
    others = [describe(2), replace(one, cpu="another"), replace(one, torch="9.9")]
    paths = {Store(each, tmp_path).path for each in (one, *others)}
    assert len(paths) == 4


def test_calibrated_rates_are_used(store: Store) -> None:
    gm, _ = model()
    assert "default rates" in qegraph.explain(qegraph.optimize(gm)).prices
    store.update(rates=replace(DEFAULTS, linear_call=1e6))
    report = qegraph.explain(qegraph.optimize(gm))
    assert "this machine's rates" in report.prices and len(report.floats()) == 2


def test_calibrate_command(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qegraph.tuning.calibration.ROUNDS", 2)
    assert cli.main(["calibrate", "--threads", str(torch.get_num_threads())]) == 0
    assert str(store.path) in capsys.readouterr().out
    rates = store.read().rates
    assert rates is not None and all(getattr(rates, each.name) >= 0 for each in fields(Rates))
    assert rates.int8_macs != DEFAULTS.int8_macs and rates.post_op == DEFAULTS.post_op


def test_calibration_keeps_the_ratios_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most take twice as long on this machine. A zero point takes 7 µs, 2 more if padded, 16 for a million weights."""

    def taken(calls: Mapping[str, object], tell: object, done: int) -> dict[str, list[float]]:
        known = {"linear_call": 70.0, "zero point": 131.0, "padded": 150.0, "padded zero point": 159.0}
        known |= {"weight sums": 1023.0}
        return {name: [known.get(name, 2.0 * getattr(DEFAULTS, name, 500.0))] * 3 for name in calls}

    monkeypatch.setattr("qegraph.tuning.calibration._in_turns", taken)
    defaults, rates = DEFAULTS.on(torch.get_num_threads()), calibrate()
    for name in ("conv_call", "linear_call", "norm_call", "half_linear_call", "view"):
        assert getattr(rates, name) == 2 * getattr(defaults, name)
    assert (rates.zero_point, rates.padded_zero_point, rates.zero_point_weights) == (7.0, 2.0, 2**20 / 16)
    assert rates.half_weight / defaults.half_weight == rates.float_macs / defaults.float_macs != 1.0


def test_a_float_convolution_of_groups_leaves_lanes_empty() -> None:
    """Depthwise, it takes longer than its multiply-adds at the full rate; int8 ones do so by `group_channels`."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(64, 64, 3, padding=1, groups=64).eval()
    found = search(capture(torch.export.export(model, (torch.randn(1, 64, 56, 56),)).module()))
    (index,) = (k for k, node in enumerate(found.snapshot.nodes) if node.op == "Gemm")
    few = replace(DEFAULTS, kernel_bandwidth=1e9)
    at_once = estimates(found, replace(few, float_group_channels=1.0))[index] - few.float_conv_call
    assert estimates(found, few)[index] - few.float_conv_call == pytest.approx(5 * at_once, rel=1e-3)


def test_rates_grow_with_threads() -> None:
    two = DEFAULTS.on(2)
    assert all(getattr(two, name) == 2 * getattr(DEFAULTS, name) for name in PER_THREAD)
    assert two.conv_call == DEFAULTS.conv_call and DEFAULTS.on(1) == DEFAULTS


def test_every_kernel_is_timed_once(store: Store) -> None:
    gm, inputs = model()
    fast = checked(gm, inputs)
    spent = profile(fast, inputs, runs=3)
    paying = {node.meta["qegraph"]["enode"] for node in fast.graph.nodes if "qegraph" in node.meta}
    assert set(spent) == paying and all(value > 0 for value in spent.values())


@full_range
def test_times_are_told_at_the_speed_of_those_known() -> None:
    """As if the machine had been a hundred times as fast before, or nothing had told how fast."""
    gm, _ = model(512)
    found = search(capture(gm))
    costs = estimates(found, None)
    selection, keys, inputs = found.select(costs), keys_of(found, costs), inputs_of(found.program)
    module = found.emit(selection)
    times = {key: time for key, time in times_of(module, selection, keys, inputs, {}).items() if time and key}
    longest = max(times, key=lambda key: times[key])
    for known, ratio in ({longest: times[longest] / 100}, 0.01), ({longest: 0.0}, 1.0), ({"another": 1.0}, 1.0):
        again = times_of(module, selection, keys, inputs, known)
        assert ratio / 5 < median(again[key] / times[key] for key in times) < ratio * 5


def test_unknown_source_is_named() -> None:
    with pytest.raises(ValueError, match="cost must be"):
        qegraph.optimize(model()[0], cost="cheap")  # pyright: ignore[reportArgumentType]


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


def test_fidelity_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--cost-fidelity", "resnet18", "--size", "small", "--forms", "4", "--rounds", "1"]
    assert cli.main([*arguments, "--threads", str(torch.get_num_threads())]) == 0
    assert "resnet18" in capsys.readouterr().out and store.read().times
    assert "resnet18" in zoo.names()
