"""Files of optimised modules: what is loaded is what was saved, and no file makes anything else happen."""

from __future__ import annotations

import collections
import copy
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
from saved import CASES, Named, optimized, rows
from torch import fx
from torch.utils import _pytree as pytree

import qegraph
from qegraph.kernels import adds_in_32_bits, linear_adds


def unchecked(module: fx.GraphModule) -> str:
    """The module's code without the checks of its inputs."""
    lines = [line.split(";")[0] for line in module.code.splitlines()]
    return "\n".join(line for line in lines if "_guards_fn" not in line)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved module with convolutions; tests don't write to it."""
    path = tmp_path_factory.mktemp("saved") / "convolutions"
    qegraph.save(optimized("convolutions")[0], path)
    return path


@pytest.mark.parametrize("name", CASES)
def test_loaded_is_what_was_saved(name: str, tmp_path: Path) -> None:
    fast, inputs = optimized(name)
    wanted = fast(*inputs)
    qegraph.save(fast, tmp_path / "first")
    loaded = qegraph.load(tmp_path / "first")
    qegraph.save(loaded, tmp_path / "second")
    for each in (loaded, copy.deepcopy(loaded), qegraph.load(tmp_path / "second")):
        assert torch.equal(each(*inputs), wanted) and torch.equal(each(*inputs), wanted)
        assert unchecked(each) == unchecked(fast)
        assert qegraph.explain(each) == qegraph.explain(fast)
        assert [n.meta.get("qegraph") for n in each.graph.nodes] == [
            n.meta.get("qegraph") for n in fast.graph.nodes if "_guards_fn" not in n.name
        ]
    assert {p.name for p in tmp_path.iterdir()} == {"first", "second"}


def test_any_batch_stays_any(tmp_path: Path) -> None:
    fast, (x,) = optimized("any batch")
    qegraph.save(fast, tmp_path / "file")
    for size in (1, 7):
        batch = torch.randn(size, *x.shape[1:])
        assert torch.equal(qegraph.load(tmp_path / "file")(batch), fast(batch))


_FRESH = """
import sys, torch, qegraph
torch.set_num_threads(1)
wanted = torch.load(sys.argv[1])
for path, inputs, result in wanted:
    assert torch.equal(qegraph.load(path)(*inputs), result), path
print(len(wanted), "equal")
"""


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_in_a_fresh_process(tmp_path: Path) -> None:
    wanted: list[Any] = []
    for name in CASES:
        fast, inputs = optimized(name)
        path = str(tmp_path / name)
        qegraph.save(fast, path)
        wanted.append((path, inputs, fast(*inputs)))
    torch.save(wanted, tmp_path / "wanted")
    run = python(_FRESH, tmp_path / "wanted")
    assert run.stdout == f"{len(CASES)} equal\n", run.stderr


def test_nested_arguments_and_results(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pair, scale = (rows(4), {"y": rows(4)}), torch.tensor(3.0)
    gm = torch.export.export(Named(), (pair,), {"scale": scale}).module()
    assert isinstance(gm, fx.GraphModule)
    fast = qegraph.optimize(gm, cost=b.int8_first)
    qegraph.save(fast, tmp_path / "file")
    wanted, found = fast(pair, scale=scale), qegraph.load(tmp_path / "file")(pair, scale=scale)
    assert list(found) == ["both", "scaled", "none"] and found["none"] is None and type(found["both"]) is list
    for each, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(wanted), strict=True):
        assert each is other is None or torch.equal(each, other)


def test_loaded_compiles_with_default_flags(file: Path) -> None:
    torch.compiler.reset()
    loaded, (_, inputs) = qegraph.load(file), optimized("convolutions")
    with torch.no_grad():
        assert torch.equal(torch.compile(loaded)(*inputs), loaded(*inputs))


def test_control_flow_is_kept(tmp_path: Path) -> None:
    """The bodies are graphs of the file."""

    class Either(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = b.Linear()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.part(b.fq(x))
            return torch.cond(y.sum() > 0, lambda y: y + 1, lambda y: y - 1, (y,))

    x = rows(4)
    fast = qegraph.optimize(b.build(Either(), [x]), cost=b.int8_first)
    qegraph.save(fast, tmp_path / "file")
    loaded = qegraph.load(tmp_path / "file")
    for sign in (1, -1):
        assert torch.equal(loaded(x * sign), fast(x * sign))


# -- what isn't written ------------------------------------------------------------------------------------------------


def test_python_code_is_not_written(tmp_path: Path) -> None:
    class Opaque(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(-1)

    (tmp_path / "file").write_bytes(b"older")
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_module("opaque", (x,)))
    modules = {
        "sub-module 'opaque', a Opaque, which is Python": fx.GraphModule({"opaque": Opaque()}, graph),
        "calls a method .view.": fx.symbolic_trace(Opaque()),
        "calls .*which is Python code": fx.symbolic_trace(lambda x: torch.nn.functional.softmax(x, 0)),
        "on meta": _meta(),
    }
    for message, module in modules.items():
        with pytest.raises(qegraph.SaveError, match=message):
            qegraph.save(module, tmp_path / "file")
    with pytest.raises(qegraph.SaveError, match=r"before torch\.compile"):
        qegraph.save(torch.compile(Opaque()), tmp_path / "file")  # pyright: ignore[reportArgumentType]
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"older"


def _meta() -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(graph.get_attr("w"))
    return fx.GraphModule({"w": torch.nn.Parameter(torch.zeros(2, device="meta"))}, graph)


def test_an_interrupted_save_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = optimized("linears")
    path = tmp_path / "file"
    qegraph.save(fast, path)
    before = path.read_bytes()

    def fail(contents: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        qegraph.save(fast, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_checksums_are_written_whatever_the_setting(file: Path, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        qegraph.save(qegraph.load(file), tmp_path / "file")
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    qegraph.load(tmp_path / "file")


# -- what isn't read ---------------------------------------------------------------------------------------------------


def test_other_files_are_refused(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "other"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "text")
    others = {"empty": b"", "text": b"hello", "archive": path.read_bytes()}
    torch.save({"state": torch.zeros(2)}, path)
    others["weights"] = path.read_bytes()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2),)), str(tmp_path / "x.pt2"))
    others["exported"] = (tmp_path / "x.pt2").read_bytes()
    whole = file.read_bytes()
    others.update({f"{part} of 8": whole[: len(whole) * part // 8] for part in range(1, 8)})
    for name, contents in others.items():
        path.write_bytes(contents)
        with pytest.raises(qegraph.LoadError, match=r"no file of qegraph\.save|is damaged"):
            qegraph.load(path)
            pytest.fail(name)
    with pytest.raises(FileNotFoundError):
        qegraph.load(tmp_path / "none")


def test_a_changed_byte_is_found(tmp_path: Path, file: Path) -> None:
    whole, path = file.read_bytes(), tmp_path / "file"
    weight = next(t for name, t in contents_of(file)["tensors"].items() if name.startswith("packed_"))
    at = whole.index(weight.numpy().tobytes()) + 5
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(qegraph.LoadError, match=r"is damaged .*checksum"):
        qegraph.load(path)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"header": "{}", "tensors": {"w": Evil()}}, tmp_path / "file")
    with pytest.raises(qegraph.LoadError, match=r"no file of qegraph\.save"):
        qegraph.load(tmp_path / "file")
    assert not (tmp_path / "made").exists()
    with (tmp_path / "file").open("wb") as plain:
        pickle.dump(Evil(), plain)
    with pytest.raises(qegraph.LoadError, match=r"no file of qegraph\.save"):
        qegraph.load(tmp_path / "file")
    assert not (tmp_path / "made").exists()


def contents_of(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def _node(header: Any, op: str) -> Any:
    return next(node for node in header["module"]["nodes"] if node["op"] == op)


def _changes() -> dict[str, tuple[Callable[[Any], object], str]]:
    inject = "x=__import__('os').mkdir('made')"
    spec = pytree.treespec_dumps(pytree.tree_flatten(collections.defaultdict(int, a=1))[1]).replace('int"', 'mkdir"')
    return {
        "format": (lambda h: h.update(format="qegraph-module-0"), "written by qegraph .*optimise and save the model"),
        "torch": (lambda h: h.update(torch="2.12.1"), "with torch 2.12.1"),
        "need": (lambda h: h.update(needs=["more"]), r"needs what this CPU doesn't have: more.*Run qegraph.optimize"),
        "nodes": (lambda h: h["module"].pop("nodes"), "is damaged .*KeyError"),
        "report": (lambda h: h.update(report="{}"), "is damaged"),
        "key": (lambda h: next(iter(h["module"]["packed"].values())).update(key="none"), "is damaged .*KeyError"),
        "kind": (lambda h: next(iter(h["module"]["packed"].values())).update(kind="none"), "is damaged .*KeyError"),
        "placeholder": (lambda h: _node(h, "placeholder").update(target=inject), "expected a name"),
        "name": (lambda h: _node(h, "call_function").update(name=inject), "expected a name"),
        "keyword": (lambda h: _node(h, "call_function").update(kwargs={inject: 1}), "expected a name"),
        "attribute": (lambda h: _node(h, "get_attr").update(target=f'w", {inject}'), "expected the name of an attr"),
        "argument name": (lambda h: h["module"]["signature"].update(names=[inject]), "expected a name"),
        "class": (lambda h: h["module"].update(class_name=inject), "expected a name"),
        "method": (lambda h: _node(h, "call_function").update(op="call_method", target="numpy"), "never writes"),
        "function": (lambda h: _node(h, "call_function").update(target="os.system"), "no operator os.system"),
        "loader": (lambda h: _node(h, "call_function").update(target="load_library.x"), "no operator"),
        "operator": (lambda h: _node(h, "call_function").update(target="aten.from_file.default"), "opens files"),
        "argument": (lambda h: _node(h, "call_function").update(args=[{"code": "1"}]), "an argument is none"),
        "order": (lambda h: _node(h, "call_function").update(args=[{"node": "output"}]), "before it is computed"),
        "dtype": (lambda h: _node(h, "call_function").update(args=[{"dtype": "load"}]), "has no dtype 'load'"),
        "spec": (lambda h: h["module"]["signature"].update({"in": spec}), "nested by enums or default dicts"),
    }


CHANGES = _changes()


@pytest.mark.parametrize("name", CHANGES)
def test_changed_headers_are_refused(name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, message = CHANGES[name]
    contents = contents_of(file)
    header = json.loads(contents["header"])
    change(header)
    torch.save({**contents, "header": json.dumps(header)}, "file")
    with pytest.raises(qegraph.LoadError, match=re.compile(message, re.S)):
        qegraph.load("file")
    assert not Path("made").exists()


@pytest.mark.skipif(not linear_adds("float16"), reason="needs AVX512-FP16, to be without it")
def test_a_cpu_that_adds_no_float16_refuses(tmp_path: Path) -> None:
    x, y = torch.randn(5, 24), torch.randn(5, 16).half()
    gm = b.net(lambda m, x, y: m(b.fq(x)).half() + y, [b.Linear()], [x, y])
    qegraph.save(qegraph.optimize(gm, cost=b.int8_first), tmp_path / "file")
    run = python(f"import qegraph; qegraph.load({str(tmp_path / 'file')!r})", ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI")
    assert "needs what this CPU doesn't have: oneDNN's int8 products that add float16" in run.stderr


@pytest.mark.skipif(not adds_in_32_bits(), reason="needs VNNI, to be without it")
def test_a_cpu_without_vnni_refuses(file: Path) -> None:
    run = python(f"import qegraph; qegraph.load({str(file)!r})", ONEDNN_MAX_CPU_ISA="AVX2")
    assert (
        "LoadError" in run.stderr
        and "needs what this CPU doesn't have: int8 products that add in 32 bits" in run.stderr
    )
