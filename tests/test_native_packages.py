"""`qegraph.package`: packages of AOTInductor that hold the native kernels they call."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import Conv, Linear, Net, agrees, build, fq, image, int8_first
from builders import highest_exact_code as highest
from saved import optimized
from test_export import main as main
from test_export import python, run_main
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch.utils import _pytree as pytree

import qegraph
from qegraph import _dynamo, native, zoo
from qegraph.coverage.parts import qd


@pytest.fixture(autouse=True, scope="module")
def operators() -> None:
    if reason := native.unavailable():
        pytest.skip(reason)


def dynamic(x: torch.Tensor) -> torch.Tensor:
    """dequantize(quantize(x)) with parameters chosen from x."""
    code: Any = (0, highest(), torch.uint8)
    scale, zero = qd.choose_qparams.tensor(x, 0, highest(), 2**-12, torch.uint8)
    return qd.dequantize_per_tensor.tensor(qd.quantize_per_tensor.tensor(x, scale, zero, *code), scale, zero, *code)


def every_kernel(a: Any, b: Any, c: Any, d: Any, x: torch.Tensor) -> torch.Tensor:
    y = F.max_pool2d(fq(torch.relu(a(fq(x)))), 3, 2, 1)
    z = b(y) + a(fq(x))[:, :, ::2, ::2]
    return d(dynamic(c(fq(fq(torch.relu(z)).mean((2, 3))))))


@dataclass
class Exported:
    gm: torch.fx.GraphModule
    fast: torch.fx.GraphModule
    program: torch.export.ExportedProgram
    x: torch.Tensor


@functools.cache
def exported() -> Exported:
    """Of any batch."""
    torch.manual_seed(0)
    x, parts = image(), [Conv(), Conv(), Linear(8, 24), Linear()]
    shapes: Any = ({0: torch.export.Dim("batch", max=64)},)
    gm = build(Net(every_kernel, parts), [x], (shapes,), strict=False)
    fast = qegraph.optimize(gm, kernels="native", target="compiled", cost=int8_first)
    called = {str(node.target).split(".")[1] for node in fast.graph.nodes if native.is_operator(node.target)}
    assert called == {"qconv", "qlinear", "qlinear_dynamic"}
    return Exported(gm, fast, torch.export.export(fast, (x,), dynamic_shapes=shapes), x)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the package."""
    return qegraph.package(exported().program, tmp_path_factory.mktemp("package") / "p.pt2")


def results(fast: torch.fx.GraphModule, *inputs: torch.Tensor) -> list[torch.Tensor]:
    torch.compiler.reset()
    with torch.no_grad():
        compiled: Any = torch.compile(fast, dynamic=True)
        return [compiled(x) for x in inputs]


_RUN = """
import sys, torch
torch.set_num_threads(1)
for inputs, wanted in torch.load(sys.argv[2]):
    run = torch._inductor.aoti_load_package(sys.argv[1])
    assert "qegraph" not in sys.modules
    assert torch.equal(run(inputs), wanted) and torch.equal(run(inputs), wanted)
mapped = {line.split()[5] for line in open("/proc/self/maps") if "libdnnl" in line or "libqegraph" in line}
assert len(mapped) == 2 and all("/aotinductor/model/" in each for each in mapped), mapped
"""


def test_a_package_needs_nothing_of_qegraph(path: str, tmp_path: Path) -> None:
    x, run = exported().x, aoti_load_package(path)
    inputs = (x, torch.cat([x, x.flip(-1), x * 2]))
    for each in inputs:
        agrees(exported().gm, run, [each])
    torch.save([(each, run(each)) for each in inputs], tmp_path / "wanted")
    python(_RUN, path, tmp_path / "wanted")


def test_the_library_lends_no_name_but_its_functions() -> None:
    """Two of them, of different versions, may be in one process."""
    if (nm := shutil.which("nm")) is None:
        pytest.skip("needs nm")
    listed = subprocess.check_output([nm, "-D", "--defined-only", native.files().operators], text=True)
    names = {line.split()[-1] for line in listed.splitlines()}
    functions = {f"aoti_torch_cpu_{each}" for each in ("qlinear", "qlinear_dynamic", "qconv", "qconv_dynamic")}
    assert functions < names
    assert {name for name in names - functions if "qegraph" in name} == {"qegraph_define"}


@pytest.mark.zoo
@pytest.mark.parametrize("first", ["qegraph", "package"])
def test_a_package_beside_qegraph(first: str, path: str, tmp_path: Path) -> None:
    x = exported().x
    torch.save((x, results(exported().fast, x)[0]), tmp_path / "wanted")
    load = "run = torch._inductor.aoti_load_package(sys.argv[1])\nassert torch.equal(run(x), wanted)\n"
    define = "from qegraph import native\nassert native.unavailable() is None\n"
    call = "w = torch.ones(4, 8, dtype=torch.int8)\ny = torch.ops.qegraph.qlinear(torch.ones(2, 8, dtype=torch.uint8), "
    tail = '1.0, 0, w, torch.ones(1), None, None, 1.0, 0, 1.0, 0, torch.float32, "identity", [])\nassert (y == 8).all()'
    steps = [define + call + tail, load] if first == "qegraph" else [load, define + call + tail]
    python(f"import sys, torch\nx, wanted = torch.load(sys.argv[2])\n{steps[0]}\n{steps[1]}", path, tmp_path / "wanted")


def test_packages_come_and_go_and_are_called_by_threads(path: str) -> None:
    x = exported().x
    wanted = aoti_load_package(path)(x)
    wrong: list[torch.Tensor] = []

    def call(run: Any) -> None:
        wrong.extend(found for found in (run(x) for _ in range(20)) if not torch.equal(found, wanted))

    for _ in range(3):
        runs = [aoti_load_package(path), aoti_load_package(path)]
        threads = [threading.Thread(target=call, args=(run,)) for run in runs * 2]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert not wrong


@pytest.mark.zoo
def test_other_weights_may_be_put_into_a_package(path: str) -> None:
    """They lie in it as they are."""
    fast, x = exported().fast, exported().x
    run, other = aoti_load_package(path), aoti_load_package(path)
    assert torch.equal(run(x), other(x))
    weights = {name: each for name, each in fast.named_buffers() if each.dtype == torch.int8}
    changed = {name: each.flip(0) for name, each in weights.items()}
    known = set(run.get_constant_fqns())
    assert weights and {*weights} <= known
    run.load_constants(changed, check_full_update=False)
    altered = copy.deepcopy(fast)
    for name, each in changed.items():
        altered.get_buffer(name).copy_(each)
    wanted, before = results(altered, x)[0], results(fast, x)[0]
    assert not torch.equal(wanted, before)
    assert torch.equal(run(x), wanted) and torch.equal(other(x), before)


def test_what_is_no_program_or_no_name_is_refused(tmp_path: Path) -> None:
    fast, _ = optimized("linears")
    program: Any = fast
    with pytest.raises(qegraph.QegraphError, match=r"got Graph\w*: torch.export.export\(fast, inputs\) makes one"):
        qegraph.package(program, tmp_path / "p.pt2")
    program = copy.copy(exported().program)
    program.example_inputs = None
    with pytest.raises(qegraph.QegraphError, match="no example inputs"):
        qegraph.package(program, tmp_path / "p.pt2")
    with pytest.raises(qegraph.QegraphError, match=r'name ends in ".pt2"'):
        qegraph.package(exported().program, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_an_older_package_stays_if_compiling_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.pt2").write_text("older")

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(_dynamo, "compile_package", fail)
    with pytest.raises(RuntimeError, match="no"):
        qegraph.package(exported().program, tmp_path / "p.pt2")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["older"]


@pytest.mark.zoo
def test_torchs_own_packaging_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"qegraph.package\(program, path\) makes one that holds the kernels"):
        aoti_compile_and_package(exported().program, package_path=str(tmp_path / "p.pt2"))


@pytest.mark.zoo
def test_torchs_operators_need_no_library(tmp_path: Path) -> None:
    fast, inputs = optimized("linears")
    path = qegraph.package(torch.export.export(fast, inputs), tmp_path / "p.pt2")
    assert Path(path).stat().st_size < 2**21
    assert torch.equal(aoti_load_package(path)(*inputs), results(fast, *inputs)[0])


@pytest.mark.zoo
def test_in_a_program_without_python(path: str, main: Path) -> None:
    """Bit-equal to the module given to torch.compile."""
    x = exported().x
    wanted = results(exported().fast, x)[0]
    assert torch.equal(run_main(main, path, x, wanted), wanted)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_package_of_a_model(name: str, tmp_path: Path) -> None:
    """Of small models: bit-equal to the module given to torch.compile."""
    model, inputs = zoo.load(name, "small")
    fast = qegraph.optimize(zoo.quantize(model, inputs), cost=int8_first, kernels="native", target="compiled")
    with torch.no_grad():
        path = qegraph.package(torch.export.export(fast, inputs), tmp_path / "p.pt2")
        torch.compiler.reset()
        wanted, found = torch.compile(fast)(*inputs), aoti_load_package(path)(*inputs)
    pairs = zip(*map(pytree.tree_leaves, (wanted, found)), strict=True)
    assert all(torch.equal(each, other) for each, other in pairs)
