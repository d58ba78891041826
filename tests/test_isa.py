"""CPUs with less: what oneDNN's kernels compute under its limits, and that what is emitted there is right.

Limits are read once in a process, so each is tried in one of its own.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import READS_INT8

from qegraph import native
from qegraph.machine import LIMITS, describe
from qegraph.tuning.store import Store

WITHOUT_VNNI = [
    {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"DNNL_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
]
WITH_VNNI = [{"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}, {}]

MEASURE = """
import json, torch
from qegraph.kernels import adds_in_32_bits, highest_exact_code
from qegraph import native
onednn, windows = torch.ops.onednn, ([1, 1], [1, 1], [1, 1])
torch.manual_seed(0)

def wrong(kernel, high, shape, weight):
    x = torch.randint(0, high + 1, shape).to(torch.uint8)
    w = torch.randint(-127, 128, weight, dtype=torch.int8)
    scales, groups = torch.ones(len(w)), shape[1] // weight[1]
    tail = (None, 1.0, 0, torch.float32, "none", [], "")
    if len(shape) == 2:
        exact = x.double() @ w.double().t()
        if kernel == "native":
            found = torch.ops.qegraph.qlinear(
                x, 1.0, 0, w, scales, None, None, 1.0, 0, 1.0, 0, torch.float32, "identity", [])
        else:
            found = onednn.qlinear_pointwise(x, 1.0, 0, onednn.qlinear_prepack(w, None), scales, None, *tail)
    else:
        exact = torch.conv2d(x.double(), w.double(), None, *windows, groups)
        packed = onednn.qconv_prepack(w, scales, 1.0, 0, *windows, groups, list(shape))
        found = onednn.qconv_pointwise(x, 1.0, 0, packed, scales, None, None, *windows, groups, *tail[1:])
    return float(((found.double() - exact).abs() > 1e-6 * exact.abs() + 0.5).double().mean())

cases = {
    "linear": ((5, 256), (16, 256)), "row": ((1, 64), (16, 64)), "conv": ((2, 16, 7, 7), (24, 16, 3, 3)),
    "pointwise": ((2, 64, 7, 7), (32, 64, 1, 1)), "depthwise": ((2, 32, 7, 7), (32, 1, 3, 3)),
}
windows_of = {"pointwise": ([1, 1], [0, 0], [1, 1])}
found = {}
for name, (shape, weight) in cases.items():
    windows = windows_of.get(name, ([1, 1], [1, 1], [1, 1]))
    found[name] = [wrong("onednn", high, shape, weight) for high in (255, 127)]
if native.load():
    found["native"] = [wrong("native", high, *cases["linear"]) for high in (255, 127)]
print(json.dumps({"wrong": found, "exact": adds_in_32_bits(), "highest": highest_exact_code()}))
"""

OPTIMISE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
import builders as b
import torch.nn.functional as F
import qegraph

def function(m, n, k, image, rows):
    h = b.fq(F.relu(m(b.fq(image))), b.OUT)
    return b.q(F.relu(n(h) + b.dq(b.q(image))), b.OUT), b.q(F.gelu(k(b.fq(rows))), b.OUT)

image, rows = b.image(), torch.randn(5, 24) * 3
gm = b.net(function, [b.Conv(), b.Conv(), b.Linear()], [image, rows])
print(b.post_ops(b.checked(gm, [image, rows])))
full = b.net(lambda m, n, x, y: (m(b.fq(x, b.FULL)), n(b.fq(y, b.FULL))), [b.Conv(), b.Linear()], [image, rows])
fast = b.checked(full, [image, rows])
print([each.reason for each in qegraph.explain(fast).floats()])
"""

LINEAR = """
import torch
from qegraph import native
native.load()
x, w = torch.ones(5, 30, dtype=torch.uint8), torch.ones(7, 30, dtype=torch.int8)
y = torch.ops.qegraph.qlinear(
    x, 0.5, 0, w, torch.ones(1), None, None, 1.0, 0, 1.0, 0, torch.float32, "identity", [])
assert (y == 15.0).all()
"""


def run(script: str, limits: dict[str, str], *arguments: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS} | limits
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.splitlines()


def _all(limits: dict[str, str]) -> None:
    """Share of wrong results on random codes up to 255 and up to 127, what we make of it, and of graphs.

    Activations of the quantizer's range fuse, and results are right; those of the whole range stay float, if need be.
    """
    measured, fused, floats = run(MEASURE + OPTIMISE, limits, str(Path(__file__).parent))
    found: dict[str, Any] = json.loads(measured)
    exact = limits in WITH_VNNI
    assert (found["exact"], found["highest"]) == (exact, 255 if exact else 127)
    for name, (full, half) in found["wrong"].items():
        assert half == 0.0, name
        assert (full == 0.0) if exact or name == "depthwise" else (full > 0.2), (name, full)
    assert sorted(ast.literal_eval(fused)) == ["add+relu", "gelu", "relu"]
    reasons = ast.literal_eval(floats)
    assert len(reasons) == (0 if exact else 2) and all("VNNI" in reason for reason in reasons)


def _tests(name: str, limits: dict[str, str], cache: Path, *options: str) -> None:
    """With an Inductor cache of its own: code that was compiled for another CPU isn't looked for."""
    environment = {**os.environ, **limits, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    tests = Path(__file__).parent / name
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tests)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, "\n".join(done.stdout.splitlines()[-40:])


@pytest.mark.skipif(not READS_INT8, reason="this CPU can't be limited further, or already is")
@pytest.mark.parametrize("limits", [*WITHOUT_VNNI[:2], WITH_VNNI[0]], ids=str)
def test_within_limits(limits: dict[str, str]) -> None:
    _all(limits)


@pytest.mark.zoo
@pytest.mark.skipif(not READS_INT8, reason="this CPU can't be limited further, or already is")
@pytest.mark.parametrize("limits", [WITHOUT_VNNI[2], *WITH_VNNI[1:]], ids=str)
def test_within_other_limits(limits: dict[str, str]) -> None:
    _all(limits)


def test_a_linear_without_vnni_runs_by_a_kernel_for_the_cpu() -> None:
    """Not by oneDNN's generic matmul, whose numbers are the same: there is a convolution for the instructions."""
    if reason := native.unavailable():
        pytest.skip(reason)
    lines = run(LINEAR, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ONEDNN_VERBOSE": "1"})
    kernels = [line.split(",")[3:5] for line in lines if line.startswith("onednn_verbose") and ",exec," in line]
    assert ["convolution", "jit_uni_int8_1x1:avx2"] in kernels and "matmul" not in dict(kernels), kernels


@pytest.mark.skipif(not READS_INT8, reason="this CPU can't be limited further, or already is")
def test_our_operators_without_vnni(tmp_path: Path) -> None:
    """Every row of the table for a linear, ranks and broadcast residuals, by the kernels of a CPU with less."""
    _tests("test_native.py", WITHOUT_VNNI[0], tmp_path, "-k", "linear and not dynamic")


def test_limits_are_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured under one is kept apart, and named."""
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    free = describe.__wrapped__(1)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    limited = describe.__wrapped__(1)
    assert free.limits == () and limited.limits == ("ONEDNN_MAX_CPU_ISA=AVX2",)
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in limited.line() and Store(free).path != Store(limited).path


@pytest.mark.zoo
@pytest.mark.skipif(not READS_INT8, reason="this CPU can't be limited further, or already is")
@pytest.mark.parametrize("limits", [*WITHOUT_VNNI[:2], WITH_VNNI[0]], ids=str)
def test_the_whole_suite(limits: dict[str, str], tmp_path: Path) -> None:
    _tests(".", limits, tmp_path)
