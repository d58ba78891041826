"""Every row of the kernel table, called on this machine and compared with its formula in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from qegraph.kernels import FLOAT_OUTPUTS, FLOATS, PARAMETERS, POST_OPS, accepted, adds_in_32_bits, highest_exact_code

FUNCTIONS: dict[str, Any] = {
    "identity": lambda y: y,
    "relu": torch.relu,
    "clamp": lambda y: y.clamp(-0.5, 2.0),
    "gelu": torch.nn.functional.gelu,
    "gelu-tanh": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "hardswish": torch.nn.functional.hardswish,
    "leaky_relu": lambda y: torch.nn.functional.leaky_relu(y, 0.1),
    "tanh": torch.tanh,
}
ARGUMENTS = {"clamp": [-0.5, 2.0], "leaky_relu": [0.1]}
SCALE, ZERO, OUT_SCALE, OUT_ZERO = 0.02, 117, 0.03, 61


def post_op(f: str) -> list[Any]:
    name, algorithm = POST_OPS[f]
    assert len(ARGUMENTS.get(f, [])) == PARAMETERS.get(f, 0)
    return [name, ARGUMENTS.get(f, []), algorithm]


@pytest.mark.parametrize(("kind", "other", "out", "f"), list(accepted()))
def test_row(kind: str, other: str, out: str, f: str) -> None:
    torch.manual_seed(0)
    rank = 0 if kind == "linear" else int(kind[4])
    x = torch.randint(0, highest_exact_code() + 1, (2, 8, *[5] * rank), dtype=torch.uint8)
    w = torch.randint(-128, 128, (6, 8, *[3] * rank), dtype=torch.int8)
    w_scale, bias = torch.rand(6) * 0.01 + 0.001, torch.randn(6)
    codes = out == "codes"
    tail: list[Any] = [OUT_SCALE, OUT_ZERO, torch.uint8] if codes else [1.0, 0, getattr(torch, out)]
    windows: list[Any] = [] if kind == "linear" else [[1] * rank, [1] * rank, [1] * rank, 1]
    head: list[Any] = [_packed(w, w_scale, x, windows), w_scale, None]
    exact = _product(x, w, w_scale, bias, rank)
    if other == "absent":
        packet = torch.ops.onednn.qconv_pointwise if rank else torch.ops.onednn.qlinear_pointwise
        found, dynamic = _run(packet.default, packet.tensor, x, [*head, bias, *windows, *tail, *post_op(f)])
    else:
        residual, real, params, binary = _residual(exact, other, out, kind)
        exact = exact + real
        packet = torch.ops.onednn.qconv2d_pointwise if rank else torch.ops.onednn.qlinear_pointwise
        tail += [*params, binary, 1.0, *post_op(f)]
        found, dynamic = _run(packet.binary, packet.binary_tensor, x, [*head, residual, bias, *windows, *tail])
    assert torch.equal(found, dynamic)
    expected = FUNCTIONS[f](exact)
    if codes:
        expected = ((expected / OUT_SCALE).round() + OUT_ZERO).clamp(0, 255)
        assert (found.double() - expected).abs().max() <= 1
        assert ((found.double() - expected) != 0).sum() <= 2
    else:
        rounding = 0.0 if out == "float32" else torch.finfo(found.dtype).eps / 2
        atol = (1e-5 + rounding) * float(expected.abs().max())
        assert found.dtype == getattr(torch, out)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", FLOAT_OUTPUTS)
def test_half_bias(kind: str, dtype: torch.dtype) -> None:
    """It is added as it is, whatever the output's dtype. (Without VNNI by another kernel, in another order.)"""
    rank = 0 if kind == "linear" else int(kind[4])
    x = torch.randint(0, 128, (2, 8, *[5] * rank), dtype=torch.uint8)
    w, w_scale = torch.randint(-128, 128, (6, 8, *[3] * rank), dtype=torch.int8), torch.rand(6) * 0.01
    windows: list[Any] = [] if kind == "linear" else [[1] * rank, [1] * rank, [1] * rank, 1]
    packet = torch.ops.onednn.qconv_pointwise if rank else torch.ops.onednn.qlinear_pointwise
    bias = torch.randn(6).to(dtype)
    head: list[Any] = [_packed(w, w_scale, x, windows), w_scale, None]
    tail: list[Any] = [*windows, 1.0, 0, torch.float32, *post_op("identity")]
    half, full = (packet.default(x, SCALE, ZERO, *head, each, *tail) for each in (bias, bias.float()))
    torch.testing.assert_close(half, full, rtol=0, atol=0.0 if adds_in_32_bits() else 1e-6 * float(full.abs().max()))


def _run(op: Any, tensor_op: Any, x: torch.Tensor, rest: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """With scale and zero point as numbers, and as tensors. The operands are copied: "sum" writes one."""
    params = torch.tensor([SCALE], dtype=torch.float64), torch.tensor([ZERO])
    found = op(x, SCALE, ZERO, *map(_copy, rest)).clone()
    return found, tensor_op(x, *params, *map(_copy, rest))


def _copy(operand: Any) -> Any:
    return operand.clone() if isinstance(operand, torch.Tensor) and not operand.is_mkldnn else operand


_REORDERS = """
import torch
from qegraph.packing import PackedConv
torch.set_num_threads(2)
calls = []
for i, o, size, height, others in (
    (256, 64, 1, 7, None), (256, 64, 1, 8, 0), (256, 64, 1, 9, 3), (960, 240, 1, 1, None), (32, 64, 3, 7, None)
):
    x = torch.zeros(1, i, height, height, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    scales, windows = torch.ones(o), ([1, 1], [size // 2] * 2, [1, 1])
    for zero_point in (0, 128, 5, 0):
        weight = torch.randint(-9, 9, (o, i, size, size), dtype=torch.int8)
        if others is not None:  # torch itself packs one, of which qegraph doesn't know
            torch.ops.onednn.qconv_prepack(weight, scales, 0.1, others, *windows, 1, list(x.shape))
        packed = PackedConv(weight, o, 0.1, zero_point, windows, 1, list(x.shape))()
        calls.append((x, zero_point, packed, scales, windows))
for turn in range(2):
    if turn:
        print("steady", flush=True)
    for x, zero_point, packed, scales, windows in calls:
        torch.ops.onednn.qconv_pointwise(
            x, 0.1, zero_point, packed, scales, None, None, *windows, 1, 0.1, 3, torch.uint8, "none", [], "")
"""


def test_zero_points_do_not_spoil_each_others_packing() -> None:
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    run = subprocess.run([sys.executable, "-c", _REORDERS], capture_output=True, text=True, check=True, env=environment)
    steady = run.stdout.partition("steady")[2]
    assert steady.count(",exec,cpu,convolution,") == 20
    assert ",reorder," not in steady


def _packed(w: torch.Tensor, w_scale: torch.Tensor, x: torch.Tensor, windows: list[Any]) -> torch.Tensor:
    if not windows:
        return torch.ops.onednn.qlinear_prepack(w, list(x.shape))
    return torch.ops.onednn.qconv_prepack(w, w_scale, SCALE, ZERO, *windows, list(x.shape))


def _product(x: torch.Tensor, w: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor, rank: int) -> torch.Tensor:
    real_x = (x.double() - ZERO) * SCALE
    real_w = w.double() * w_scale.double().reshape(-1, *[1] * (rank + 1))
    if not rank:
        return real_x @ real_w.T + bias.double()
    conv = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]
    return conv(real_x, real_w, bias.double(), padding=1)


def _residual(exact: torch.Tensor, other: str, out: str, kind: str) -> tuple[torch.Tensor, torch.Tensor, Any, str]:
    """The operand as the kernel reads it, its real values, its parameters, and the way it is added."""
    memory_format = torch.channels_last if exact.dim() == 4 else torch.contiguous_format
    if other in FLOATS:
        real = torch.randn_like(exact, dtype=getattr(torch, other)).to(memory_format=memory_format)
        in_place = kind != "linear"
        return real.clone(memory_format=memory_format), real.double(), (1.0, 0), "sum" if in_place else "add"
    codes = torch.randint(0, 256, exact.shape, dtype=torch.uint8).to(memory_format=memory_format)
    return codes, (codes.double() - 99) * 0.01, (0.01, 99), "sum"
