"""Optimised modules through torch.export and AOTInductor: plain tensors in the program, packed ones made once."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import builders as b
import pytest
import torch
from captured import targets
from saved import CASES, optimized
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch._inductor.utils import run_and_get_code
from torch.utils import _pytree as pytree

import qegraph
from qegraph import borders, prepack, zoo
from qegraph.capture import capture

ALL = ["linears", "convolutions", "convolution's float sum", "clamped codes", "conv1d", "half weight", "any batch"]
"""Cases that have between them every kind of packed weight, of operand a kernel writes to, and a symbolic size."""


def exported(name: str, strict: bool = False) -> torch.export.ExportedProgram:
    fast, inputs = optimized(name)
    shapes = ({0: torch.export.Dim("batch", max=64)},) if name == "any batch" else None
    return torch.export.export(fast, inputs, strict=strict, dynamic_shapes=shapes)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_exported_program(name: str, strict: bool) -> None:
    fast, inputs = optimized(name)
    program = exported(name, strict)
    tensors: list[Any] = [*program.state_dict.values(), *program.constants.values()]
    assert tensors and all(type(each.detach()) is torch.Tensor and not each.is_mkldnn for each in tensors)
    called = {str(node.target) for node in program.graph.nodes}
    assert not any("packed_weight" in each for each in called)
    run = program.module()
    assert torch.equal(run(*inputs), fast(*inputs)) and torch.equal(run(*inputs), fast(*inputs))


def python(code: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


# -- packing once ------------------------------------------------------------------------------------------------------


def product(weight: torch.Tensor) -> torch.Tensor:
    packed = torch.ops.qegraph.pack_linear(weight, None)
    x = torch.ones(2, weight.shape[1], dtype=torch.uint8)
    return torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 0, packed, torch.ones(weight.shape[0]), None, None, 1.0, 0, torch.float32, "none", [], ""
    )


def test_a_weight_is_packed_once_and_again_when_it_changes() -> None:
    weight = torch.ones(16, 8, dtype=torch.int8)
    pack: Any = torch.ops.qegraph.pack_linear
    first = pack(weight, None)
    assert pack(weight, None) is first and pack(weight, [2, 8]) is not first and pack(weight, None) is first
    assert pack(weight.clone(), None) is not first
    weight.fill_(2)
    assert (product(weight) == 16).all()
    weight.data = torch.full((16, 8), 3, dtype=torch.int8)
    assert (product(weight) == 24).all()
    with torch.inference_mode():
        quiet = torch.ones(16, 8, dtype=torch.int8)
        assert (product(quiet) == 8).all()
        quiet.fill_(4)
        assert (product(quiet) == 32).all()


def test_packed_weights_go_with_their_weights() -> None:
    gc.collect()
    before = len(prepack._MADE)  # pyright: ignore[reportPrivateUsage]
    weights = [torch.ones(16, 8, dtype=torch.int8) for _ in range(4)]
    assert all((product(weight) == 8).all() for weight in weights)
    assert len(prepack._MADE) == before + 4  # pyright: ignore[reportPrivateUsage]
    del weights
    gc.collect()
    assert len(prepack._MADE) == before  # pyright: ignore[reportPrivateUsage]


def test_torch_compile_of_an_exported_program_says_what_to_compile() -> None:
    _, inputs = optimized("linears")
    torch.compiler.reset()
    with torch.no_grad(), pytest.raises(Exception, match=r"compile what qegraph.optimize or qegraph.load returned"):
        torch.compile(exported("linears").module())(*inputs)


def test_a_clamp_of_codes_is_atens_own() -> None:
    """Inductor's takes a few codes at a time."""
    assert borders.clamp in {node.target for node in optimized("clamped codes")[0].graph.nodes}
    assert "qegraph.clamp" in str(exported("clamped codes").graph)
    assert torch.ops.aten.clamp.default in targets(capture(exported("clamped codes").module()))
    codes = torch.arange(256, dtype=torch.uint8)
    torch.compiler.reset()
    found, (code,) = run_and_get_code(torch.compile(lambda x: borders.clamp(x, 3, 127)), codes)
    assert torch.equal(found, codes.clamp(3, 127)) and "torch.ops.aten.clamp.default(" in code


# -- AOTInductor -------------------------------------------------------------------------------------------------------


def package(name: str, path: Path) -> str:
    return aoti_compile_and_package(exported(name), package_path=str(path))


_RUN = """
import sys, torch
torch.set_num_threads(1)
inputs, wanted = torch.load(sys.argv[2])
run = torch._inductor.aoti_load_package(sys.argv[1])
assert "qegraph" not in sys.modules
assert torch.equal(run(*inputs), wanted) and torch.equal(run(*inputs), wanted)
"""


@pytest.mark.zoo
@pytest.mark.parametrize("name", ALL)
def test_package_in_a_fresh_process_without_qegraph(name: str, tmp_path: Path) -> None:
    """Bit-equal to the module given to torch.compile."""
    fast, inputs = optimized(name)
    path = package(name, tmp_path / "p.pt2")
    constants = aoti_load_package(path).get_constant_fqns()
    assert any("pack_" in each for each in constants), "packed weights are constants"
    assert not any(each.startswith("packed_0") for each in constants), "plain weights that are packed are not"
    torch.compiler.reset()
    with torch.no_grad():
        torch.save((inputs, torch.compile(fast)(*inputs)), tmp_path / "wanted")
    python(_RUN, path, tmp_path / "wanted")


_MAIN = """
#include <ATen/Functions.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

// PACKAGE INPUT OUTPUT DIM...: a float32 input and output as bytes
int main(int argc, char** argv) {
  std::ifstream in(argv[2], std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::vector<int64_t> dims;
  for (int i = 4; i < argc; ++i) dims.push_back(std::stoll(argv[i]));
  torch::inductor::AOTIModelPackageLoader model(argv[1]);
  std::ofstream out(argv[3], std::ios::binary);
  for (const at::Tensor& each : model.run({at::from_blob(bytes.data(), dims, at::kFloat).clone()})) {
    at::Tensor dense = each.contiguous();
    out.write(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
  }
}
"""


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program without Python in it that runs a package."""
    folder = tmp_path_factory.mktemp("main")
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    (folder / "main.cpp").write_text(_MAIN)
    root = Path(torch.__file__).parent
    includes = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    libraries = [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    command = [compiler, "-std=c++20", "-O0", *includes, "main.cpp", "-o", "main", *libraries]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "main"


def run_main(main: Path, path: str, x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    folder = main.parent
    x.numpy().tofile(folder / "in")
    command = [str(main), path, "in", "out", *map(str, x.shape)]
    subprocess.run(command, cwd=folder, check=True, env={"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]})
    return torch.frombuffer(bytearray((folder / "out").read_bytes()), dtype=wanted.dtype).reshape(wanted.shape)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["linears", "convolutions", "half weight", "any batch"])
def test_package_in_a_program_without_python(name: str, main: Path, tmp_path: Path) -> None:
    fast, (x,) = optimized(name)
    path = package(name, tmp_path / "p.pt2")
    torch.compiler.reset()
    with torch.no_grad():
        wanted = torch.compile(fast)(x)
    assert torch.equal(run_main(main, path, x, wanted), wanted)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_package_of_a_model(name: str, tmp_path: Path) -> None:
    """Of small models: bit-equal to the module given to torch.compile."""
    model, inputs = zoo.load(name, "small")
    fast = qegraph.optimize(zoo.quantize(model, inputs), cost=b.int8_first)
    with torch.no_grad():
        program = torch.export.export(fast, inputs)
        path = aoti_compile_and_package(program, package_path=str(tmp_path / "p.pt2"))
        torch.compiler.reset()
        wanted, found = torch.compile(fast)(*inputs), aoti_load_package(path)(*inputs)
    pairs = zip(*map(pytree.tree_leaves, (wanted, found)), strict=True)
    assert all(torch.equal(each, other) for each, other in pairs)
