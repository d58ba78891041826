"""Disks that are full, files that are damaged, runs that are cut off, threads and processes at once.

What stands elsewhere: damaged stores of measurements, and two processes that share one, in `test_tuning`; saved modules
that are cut short, changed or hostile in `test_saving`; compilers that fail in `test_native_build`; malformed rules in
`test_rule_errors` and `test_load_rules`; limits in `test_budget`.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, Conv, Linear, fq, net, q
from saved import optimized
from torch import Tensor, fx

import qegraph
from qegraph import cli, native
from qegraph.bench import describe
from qegraph.capture import capture
from qegraph.engine import Engine
from qegraph.errors import RuleError
from qegraph.files import replacing
from qegraph.fuzz.forms import int8_first
from qegraph.fuzz.state import State
from qegraph.native import library
from qegraph.prove import Proof, stamps
from qegraph.rule_files import load
from qegraph.tuning import Store

SMALL = 100
"""Bytes a full disk has left."""


@contextmanager
def full_disk() -> Generator[None]:
    """No file of this process may grow beyond `SMALL`: writing fails as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def rows() -> Tensor:
    return torch.linspace(-2, 2, 96).reshape(4, 24)


def perceptron() -> fx.GraphModule:
    torch.manual_seed(0)
    return net(lambda m, x: q(F.relu(m(fq(x))), OUT), [Linear()], [rows()])


# -- nothing can be written --------------------------------------------------------------------------------------------


def _save(folder: Path) -> None:
    qegraph.save(optimized("linears")[0], folder / "file")


def _state(folder: Path) -> None:
    State(undecided={str(seed): "more than the disk has left" for seed in range(9)}).save(folder / "file")


def _stamp(folder: Path) -> None:
    rule = replace(qegraph.shipped_rules()[0], where=f"{folder}/rules.py:1")
    stamps.keep([Proof(rule, 200, exact=200)])


WRITES: dict[str, tuple[Callable[[Path], None], str]] = {
    "save": (_save, "file"),
    "fuzz state": (_state, "file"),
    "stamps": (_stamp, stamps.FILE),
}


@pytest.mark.parametrize("name", WRITES)
def test_full_disk(name: str, tmp_path: Path) -> None:
    """What was there stays, nothing half-written lies beside it, and with room a second try succeeds."""
    write, file = WRITES[name]
    (tmp_path / "rules.py").write_text("")
    (tmp_path / file).write_text("{}")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write(tmp_path)
    assert (tmp_path / file).read_text() == "{}"
    assert {each.name for each in tmp_path.iterdir()} == {"rules.py", file}
    write(tmp_path)
    assert (tmp_path / file).stat().st_size > SMALL


def test_measurements_on_a_full_disk(tmp_path: Path) -> None:
    """Costs are measured all the same; what they were is lost, with a warning."""
    store = Store(describe(1), tmp_path)
    store.update(times={"a": 1.0})
    with full_disk(), pytest.warns(UserWarning, match="what was measured can't be kept in .*File too large"):
        store.update(times={f"another kernel {i}": 1.0 for i in range(SMALL)})
    assert store.read().times == {"a": 1.0}
    assert not [each for each in tmp_path.iterdir() if each.suffix == ".tmp"]


@pytest.mark.parametrize("name", ["save", "fuzz state"])
def test_a_folder_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="Not a directory"):
        WRITES[name][0](tmp_path / "file")


def test_commands_say_what_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert cli.main(["rules", "new", "mine", "--in", str(tmp_path / "file" / "rules")]) == 2
    assert capsys.readouterr().err == f"qegraph: {tmp_path}/file/rules: Not a directory\n"


# -- files that are damaged --------------------------------------------------------------------------------------------

RULES: dict[str, tuple[bytes, str]] = {
    "syntax": (b"def broken(:\n", r"rule file .*rules\.py:1: SyntaxError"),
    "binary": (bytes(range(128, 256)), r"no rule file can be read at .*rules\.py: 'utf-8' codec can't decode"),
    "null bytes": (b"\0\0\0", r"rule file .*rules\.py.*null bytes"),
    "empty": (b"", r"rules\.py defines no rules; a rule is a function under `@rule`"),
    "leaves the process": (b"raise SystemExit(3)", r"rule file .*rules\.py:1: SystemExit: 3"),
    "raises": (b"\n1 / 0", r"rule file .*rules\.py:2: ZeroDivisionError"),
    "recursion": (b"def f():\n    f()\nf()", r"rule file .*rules\.py:\d: RecursionError"),
}


@pytest.mark.parametrize("name", RULES)
def test_damaged_rule_files(name: str, tmp_path: Path) -> None:
    text, message = RULES[name]
    path = tmp_path / "rules.py"
    path.write_bytes(text)
    with pytest.raises(RuleError, match=message):
        qegraph.optimize(perceptron(), rules=["default", str(path)])


def test_rule_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    for name in ("none.py", "folder.py"):
        with pytest.raises(RuleError, match=r"no rule file can be read at|defines no rules"):
            qegraph.optimize(perceptron(), rules=["default", str(tmp_path / name)])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"NAME": {"digest": 3}}', "\0", '{"NAME": 7}'])
def test_damaged_stamps(text: str, tmp_path: Path) -> None:
    rule = replace(qegraph.shipped_rules()[0], where=f"{tmp_path}/rules.py:1")
    (tmp_path / "rules.py").write_text("")
    (tmp_path / stamps.FILE).write_text(text.replace("NAME", rule.name))
    with pytest.raises(RuleError, match=r"proofs\.json: .*make it anew \(qegraph rules check --stamp\)"):
        stamps.stamp_of(rule)


def test_a_damaged_library_of_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "libqegraph.so.0"
    made.write_bytes(b"\x7fELF, and then nothing")
    monkeypatch.setattr(library, "_onednn", lambda: Path())
    monkeypatch.setattr(library, "_built", lambda _: made)
    library.loaded.cache_clear()
    try:
        assert f"delete it to have it built anew: {made}: " in str(native.unavailable())
        with pytest.raises(qegraph.QegraphError, match="delete it"):
            qegraph.optimize(perceptron(), kernels="native")
    finally:
        library.loaded.cache_clear()


def test_any_changed_byte_of_a_saved_module(tmp_path: Path) -> None:
    """Refused, or of no consequence: whichever byte it is."""
    fast, inputs = optimized("linears")
    path, wanted = tmp_path / "file", fast(*inputs)
    qegraph.save(fast, path)
    whole, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(120):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            assert torch.equal(qegraph.load(path)(*inputs), wanted)
        except qegraph.LoadError:
            refused += 1
    assert refused > 60


def _claims(contents: Any) -> dict[str, Any]:
    header = json.loads(contents["header"])
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    packed = next(iter(header["module"]["packed"].values()))
    many = {**header, "module": {**header["module"], "nodes": header["module"]["nodes"] * 2}}
    return {
        "deep": {**contents, "header": '{"format": "qegraph-module-1", "module": ' + "[" * 100_000},
        "many": {**contents, "header": json.dumps(many)},
        "other weight": {
            **contents,
            "tensors": {**contents["tensors"], packed["key"]: torch.zeros(1, dtype=torch.int8).expand(2**20, 2**20)},
        },
    }


@pytest.mark.parametrize("name", ["deep", "many", "other weight"])
def test_saved_modules_that_claim_too_much(name: str, tmp_path: Path) -> None:
    """A terabyte of a weight that isn't in the file is not asked for."""
    path = tmp_path / "file"
    qegraph.save(optimized("linears")[0], path)
    contents = _claims(torch.load(path, weights_only=True))[name]
    torch.save(contents, path)
    with pytest.raises(qegraph.LoadError, match=r"no file of qegraph\.save|is damaged|two nodes are named"):
        qegraph.load(path)


# -- runs that are cut off ---------------------------------------------------------------------------------------------

STAGES = (
    "qegraph.pipeline.capture",
    "qegraph.search.encode",
    "qegraph.search.saturate",
    "qegraph.search.Freezer",
    "qegraph.pipeline.price",
    "qegraph.search.extract",
    "qegraph.search.Emitter",
    "qegraph.pipeline.verified",
    "qegraph.search.compose",
)


def stop(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_in_a_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gm = perceptron()
    code, grad, state = gm.code, torch.is_grad_enabled(), torch.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(stage, stop)
        with pytest.raises(KeyboardInterrupt):
            qegraph.optimize(gm, cost=int8_first, verify=True)
    assert gm.code == code and torch.is_grad_enabled() == grad and torch.equal(torch.get_rng_state(), state)
    assert not torch.is_autocast_enabled("cpu") and not torch.is_inference_mode_enabled()
    if stage == STAGES[0]:
        assert b.kinds(qegraph.optimize(gm, cost=int8_first)) == ["qlinear_pointwise.default"]


@pytest.mark.filterwarnings(r"ignore:[\s\S]*\bKeyboardInterrupt\b:pytest.PytestUnraisableExceptionWarning")
def test_interrupted_at_any_time() -> None:
    """By a real signal, at eight moments: an optimisation afterwards is what it would have been.

    Python drops an interrupt that arrives in a callback of a weak reference, and says so: the run then goes on.
    """
    gm = perceptron()
    begin = time.perf_counter()
    wanted = qegraph.optimize(gm, cost=int8_first, verify=True)
    seconds = time.perf_counter() - begin
    main = threading.main_thread().ident
    assert main is not None
    for part in range(8):
        timer = threading.Timer(seconds * part / 8, lambda: signal.pthread_kill(main, signal.SIGINT))
        try:
            timer.start()
            qegraph.optimize(gm, cost=int8_first, verify=True)
            timer.join()
        except KeyboardInterrupt:
            pass
    assert qegraph.optimize(gm, cost=int8_first, verify=True).code == wanted.code


def test_interrupted_while_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("older")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        stop()
    assert [each.name for each in tmp_path.iterdir()] == ["file"] and path.read_text() == "older"


def test_interrupted_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QEGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("qegraph.tuning.calibration.ROUNDS", 1)
    threads = str(torch.get_num_threads())
    with monkeypatch.context() as patch:
        patch.setattr("qegraph.tuning.samples.work", stop)
        with pytest.raises(KeyboardInterrupt):
            cli.main(["calibrate", "--threads", threads])
    store = Store.here(int(threads))
    assert store.read().rates is None
    assert cli.main(["calibrate", "--threads", threads]) == 0 and store.read().rates is not None


def test_interrupted_while_kernels_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was timed until then is kept; the next run goes on from there."""
    monkeypatch.setenv("QEGRAPH_CACHE_DIR", str(tmp_path))
    gm = perceptron()
    with monkeypatch.context() as patch:
        patch.setattr("qegraph.tuning.measuring.race", stop)
        with pytest.raises(KeyboardInterrupt):
            qegraph.optimize(gm, cost="measured")
    assert Store.here(torch.get_num_threads()).read().times
    assert ", 0 kernels of them now" in qegraph.explain(qegraph.optimize(gm, cost="measured")).prices


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_optimize_at_once() -> None:
    """The same graph and different ones: each gives what it gives alone, and the process is as it was."""
    torch.manual_seed(0)
    x, image = rows(), b.image()
    other = net(lambda m, x: m(fq(x)) + 1, [Linear()], [x])
    conv = net(lambda m, x: F.relu(m(fq(x))), [Conv()], [image])
    work = [(perceptron(), x), (other, x), (conv, image)]
    alone = [qegraph.optimize(gm, cost=int8_first) for gm, _ in work]
    state, threads = torch.get_rng_state(), torch.get_num_threads()

    def run(number: int) -> fx.GraphModule:
        return qegraph.optimize(work[number % 3][0], cost=int8_first, verify=True)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(6)))
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    for number, fast in enumerate(found):
        wanted, given = alone[number % 3], work[number % 3][1]
        assert fast.code == wanted.code and qegraph.explain(fast).verified
        assert torch.equal(fast(given), wanted(given))


def test_threads_capture_one_graph_at_once() -> None:
    """They share its fake mode, which keeps what kernel is running."""
    gm, before = perceptron(), sys.getswitchinterval()
    wanted = [value.name for value in capture(gm).values]
    try:
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: [value.name for value in capture(gm).values], range(40)))
    finally:
        sys.setswitchinterval(before)
    assert all(each == wanted for each in found)


def test_e_graphs_of_threads_that_have_ended() -> None:
    """Nobody can free them; that is no error of whoever comes by."""
    made: list[Engine] = []
    thread = threading.Thread(target=lambda: made.append(Engine()))
    thread.start()
    thread.join()
    made.clear()


def test_garbage_of_another_thread() -> None:
    """An e-graph in a cycle is collected by whichever thread comes to it, which mustn't free it: see `Engine`."""
    engine = Engine()
    cycle: list[Any] = [engine]
    cycle.append(cycle)
    gone = weakref.ref(engine)
    del engine, cycle
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    assert gone() is None


def test_threads_load_a_rule_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text(
        "import time; time.sleep(0.05)\nfrom qegraph.lang import Tensor, relu, rewrite, rule, unary\n"
        "from qegraph.lang.rule import Rewrite\n\n\n@rule\ndef twice(x: Tensor) -> Rewrite:\n"
        '    """relu(relu(x)) = relu(x)"""\n'
        "    return rewrite(unary(relu(), unary(relu(), x))).to(unary(relu(), x))\n"
    )
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: load([path]), range(12)))
    assert {id(rule) for (rule,) in found} == {id(found[0][0])}
