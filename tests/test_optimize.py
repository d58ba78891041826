"""The whole pipeline on small models of the zoo: sound, complete, repeatable, and nobody else's things are touched."""

from __future__ import annotations

import copy
import gc
import io
import os
import subprocess
import sys
from functools import cache

import builders as b
import pytest
import torch
from builders import Linear, fq, int8_first
from compiled import rows
from torch import fx

import qegraph
from qegraph import zoo
from qegraph.validate import FLIPPED_SHARE, validate

NAMES = [pytest.param(name, marks=pytest.mark.zoo) if name == "densenet121" else name for name in zoo.names()]
"""A densenet, even a small one, takes as long as the others together."""
SIZES = ["small", pytest.param("full", marks=pytest.mark.zoo)]


@cache
def quantized(name: str, size: zoo.Size = "small") -> tuple[fx.GraphModule, tuple[torch.Tensor, ...]]:
    model, inputs = zoo.load(name, size)
    return zoo.quantize(model, inputs), inputs


@cache
def optimized(name: str, size: zoo.Size = "small") -> fx.GraphModule:
    """Layers of small models may be small enough for floats to be cheaper; those of full ones aren't."""
    cost = int8_first if size == "small" else "estimated"
    return qegraph.optimize(quantized(name, size)[0], cost=cost)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_every_quantized_gemm_is_int8_and_within_contract(name: str, size: zoo.Size) -> None:
    gm, inputs = quantized(name, size)
    code = gm.code
    kept = [x.clone() for x in inputs]
    fast = optimized(name, size)
    report = qegraph.explain(fast)
    assert report.contractions
    assert not report.floats(), str(report)
    assert report.method == "elimination"
    assert not report.limit
    differences = validate(gm, fast, inputs)
    assert differences
    assert [each for each in differences if not each.within_contract] == []
    codes = [each for each in differences if each.integer]
    flipped = sum(each.share * each.elements for each in codes)
    assert flipped <= max(1.0, FLIPPED_SHARE * sum(each.elements for each in codes))
    with torch.no_grad():
        first, second = fast(*inputs), fast(*inputs)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(list(inputs), kept, rtol=0, atol=0)
    assert gm.code == code


def test_copies_and_files_give_the_same_result() -> None:
    _, inputs = quantized("resnet18")
    fast = optimized("resnet18")
    with torch.no_grad():
        expected = fast(*inputs)
        assert torch.equal(copy.deepcopy(fast)(*inputs), expected)
        file = io.BytesIO()
        torch.save(fast, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert torch.equal(loaded(*inputs), expected)


def test_a_dropped_copy_leaves_the_packed_weights() -> None:
    """The original and its copies share them: compiling finds them by key, whoever is still there."""
    _, inputs = quantized("resnet18")
    fast = copy.deepcopy(optimized("resnet18"))
    del_me = copy.deepcopy(fast)
    del del_me
    gc.collect()
    with torch.no_grad():
        compiled = torch.compile(fast, backend="eager")
        assert torch.equal(compiled(*inputs), fast(*inputs))


@pytest.mark.parametrize("is_run", [False, True])
def test_a_weight_written_in_place_is_packed_anew(is_run: bool) -> None:
    """Before its first run or after it; another graph with the weight as it was doesn't get what was written."""
    x = rows()
    gm = b.net(lambda m, x: m(fq(x)), [Linear()], [x])
    fast, other = qegraph.optimize(gm, require="int8"), copy.deepcopy(gm)
    kept = copy.deepcopy(fast)
    before = kept(x)
    if is_run:
        assert torch.equal(fast(x), before)
    (weight,) = [each for each in fast.buffers() if each.dtype == torch.int8]
    weight.neg_()
    copied = copy.deepcopy(fast)
    b.agrees(other, qegraph.optimize(other, require="int8"), [x])
    assert not torch.allclose(copied(x), before) and torch.equal(fast(x), copied(x))
    assert torch.equal(kept(x), before)
    weight.neg_()
    assert torch.equal(fast(x), before)


def test_what_is_compiled_is_the_weight_as_it_is() -> None:
    """Not as it was when it was packed; and it is compiled anew once the weight's key says that it is another one."""
    x = rows()
    fast = qegraph.optimize(b.net(lambda m, x: m(fq(x)), [Linear()], [x]), require="int8")
    with torch.no_grad():
        before = fast(x)
        (weight,) = [each for each in fast.buffers() if each.dtype == torch.int8]
        weight.neg_()
        compiled = torch.compile(fast)
        written = compiled(x)
        assert not torch.allclose(written, before) and torch.allclose(written, fast(x), rtol=1e-5, atol=1e-5)
        weight.neg_()
        assert torch.equal(fast(x), before)
        assert torch.allclose(compiled(x), before, rtol=1e-5, atol=1e-5)


def test_compiles_with_default_flags() -> None:
    _, inputs = quantized("mobilenet_v2")
    fast = copy.deepcopy(optimized("mobilenet_v2"))
    with torch.no_grad():
        expected = fast(*inputs)
        compiled = torch.compile(fast)
        torch.testing.assert_close(compiled(*inputs), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_require_int8_names_the_reason() -> None:
    class Product(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return _codes(x) @ _codes(y).transpose(0, 1)

    inputs = (torch.randn(4, 8), torch.randn(4, 8))
    gm = torch.export.export(Product(), inputs, strict=True).module()
    assert isinstance(gm, fx.GraphModule)
    with pytest.raises(qegraph.RequirementError, match=r"matmul.*the weight must be a constant"):
        qegraph.optimize(gm, require="int8")
    assert torch.equal(qegraph.optimize(gm)(*inputs), gm(*inputs))


def _codes(x: torch.Tensor) -> torch.Tensor:
    codes = torch.ops.quantized_decomposed.quantize_per_tensor.default(x, 0.05, 60, 0, 127, torch.uint8)
    return torch.ops.quantized_decomposed.dequantize_per_tensor.default(codes, 0.05, 60, 0, 127, torch.uint8)


_STEADY = """
import ctypes, sys, warnings; warnings.simplefilter("ignore")
import torch, qegraph; from qegraph import zoo
torch.set_num_threads(1)  # as the tests have it: costs, and so the graph, depend on it
model, inputs = zoo.load(sys.argv[1], "full")
fast = qegraph.optimize(zoo.quantize(model, inputs))
with torch.no_grad():
    for word in ("first", "second", "steady"):
        ctypes.CDLL(None).fflush(None)  # what oneDNN has written so far, or the word stands amid a line of it
        print(word, flush=True)
        fast(*inputs)
"""


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_no_weight_is_packed_again_in_steady_state(name: str) -> None:
    """oneDNN's own log of the third call: as many contractions as the graph has, and no reorder."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", _STEADY, name]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=900)
    log = run.stdout.partition("steady")[2]
    kernels = sum(log.count(f",exec,cpu,{kind},") for kind in ("convolution", "matmul", "inner_product"))
    assert kernels >= len(qegraph.explain(optimized(name, "full")).contractions)
    assert ",reorder," not in log


_DEEP = r"""
import pathlib, re, sys, time, warnings; warnings.simplefilter("ignore")
import qegraph; from qegraph import zoo
model, inputs = zoo.load("llama_style", "small", layers=int(sys.argv[1]))
gm = zoo.quantize(model, inputs, calibration_batches=1)
times = []
for _ in range(3):
    start = time.perf_counter()
    fast = qegraph.optimize(gm, require="int8")
    times.append(time.perf_counter() - start)
report = qegraph.explain(fast)
# not ru_maxrss: a child inherits that of its parent
peak = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 2**20
print("measured", len(gm.graph.nodes), min(times), peak, report.cost - report.lower_bound, len(report.floats()))
"""


def _deep(layers: int) -> tuple[int, float, float, float, int]:
    """Nodes of the q/dq graph, seconds of the fastest of three optimizations, peak GiB of the process, gap, floats."""
    command = [sys.executable, "-c", _DEEP, str(layers)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    numbers = run.stdout.partition("measured")[2].split()
    return int(numbers[0]), float(numbers[1]), float(numbers[2]), float(numbers[3]), int(numbers[4])


@pytest.mark.zoo
def test_time_grows_linearly_with_depth_up_to_ten_thousand_nodes() -> None:
    """8 times the layers cost at most 10 times the time, 5 ms a node and 2 GB: the best of three, so that load on the
    machine plays no part. The process holds torch, torchao, the model and its export too."""
    few, short, _, _, _ = _deep(14)
    many, long, peak, gap, floats = _deep(112)
    print(f"{few} nodes {short:.2f} s, {many} nodes {long:.2f} s, {peak:.2f} GiB")
    assert many >= 10_000
    assert long <= 10 * short
    assert long <= 0.005 * many
    assert peak < 2
    assert gap == pytest.approx(0, abs=1e-6) and floats == 0
