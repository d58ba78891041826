"""float8 (e4m3) activations and weights: torchao's quantize and dequantize, oneDNN's kernels."""

# pyright: reportUnknownLambdaType=false, reportMissingTypeStubs=false, reportUnusedImport=false
from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import OUT, checked, decomposed, has, net, q
from test_kernels import FUNCTIONS, post_op
from torch import Tensor, nn

import qegraph
from qegraph.kernels import accepted, reads_float8
from qegraph.load_rules import shipped

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # what torchao couldn't load
    pytest.importorskip("torchao.quantization.quant_primitives")  # registers the operators
    logging.disable(logging.NOTSET)

pytestmark = pytest.mark.skipif(not reads_float8(), reason="this torch has no float8 kernels")
MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])
E4M3 = torch.float8_e4m3fn
SCALE, OUT_SCALE = 0.02, 0.05
ROWS = [row for row in accepted() if row[2] == "float32" and row[1] in ("absent", "float32")]


def q8(x: Tensor, scale: float = SCALE) -> Tensor:
    return torch.ops.torchao.quantize_affine_float8_non_decomposed.default(x, torch.full([1], scale))


def dq8(x: Tensor, scale: float = SCALE) -> Tensor:
    return torch.ops.torchao.dequantize_affine_float8_non_decomposed.default(x, torch.full([1], scale))


def fq8(x: Tensor, scale: float = SCALE) -> Tensor:
    return dq8(q8(x, scale), scale)


def codes(*shape: int) -> Tensor:
    return (torch.randn(shape) * 20).to(E4M3)


class Layer(nn.Module):
    """A linear (dims 0) or convolution over a float8 weight; the scale is a constant tensor."""

    def __init__(self, dims: int = 0, i: int = 24, o: int = 16, **options: Any) -> None:
        super().__init__()
        self.codes = nn.Buffer(codes(o, i, *[3] * dims))
        self.scale = nn.Buffer(torch.tensor([0.004], **options))
        self.bias = nn.Buffer(torch.randn(o))
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        w = torch.ops.torchao.dequantize_affine_float8_non_decomposed.default(self.codes, self.scale)
        if not self.dims:
            return F.linear(x, w, self.bias)
        return (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1](x, w, self.bias, padding=1)


def operand(dims: int) -> Tensor:
    return torch.randn(2, 24, *[5] * dims)


@pytest.mark.parametrize(("kind", "other", "out", "f"), ROWS)
def test_row(kind: str, other: str, out: str, f: str) -> None:
    """Every float row of the kernel table holds for float8 too."""
    dims = 0 if kind == "linear" else int(kind[4])
    x, w = codes(4, 16, *[5] * dims), codes(6, 16, *[3] * dims)
    scales, bias = torch.rand(6) * 0.01 + 0.001, torch.randn(6)
    real_w = w.double() * scales.double().reshape(-1, *[1] * (dims + 1))
    if dims:
        conv: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
        exact = conv(x.double() * SCALE, real_w, bias.double(), padding=1)
    else:
        exact = F.linear(x.double() * SCALE, real_w, bias.double())
    windows: list[Any] = [[1] * dims, [1] * dims, [1] * dims, 1] if dims else []
    prepack = torch.ops.onednn.qconv_prepack if dims else torch.ops.onednn.qlinear_prepack
    packed = prepack(*((w, scales, SCALE, 0, *windows) if dims else (w,)), list(x.shape))
    head, tail = [x, SCALE, 0, packed, scales, None], [1.0, 0, torch.float32]
    if other == "absent":
        op = torch.ops.onednn.qconv_pointwise if dims else torch.ops.onednn.qlinear_pointwise
        found = op.default(*head, bias, *windows, *tail, *post_op(f))
    else:
        memory_format = torch.channels_last if dims else torch.contiguous_format
        y = torch.randn_like(exact, dtype=torch.float32).contiguous(memory_format=memory_format)
        exact = exact + y.double()
        op = torch.ops.onednn.qconv2d_pointwise if dims else torch.ops.onednn.qlinear_pointwise
        binary = "sum" if dims else "add"
        found = op.binary(*head, y.clone(), bias, *windows, *tail, 1.0, 0, binary, 1.0, *post_op(f))
    expected = FUNCTIONS[f](exact)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@MAKES
@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_float_output(make: b.Make, dims: int) -> None:
    x = operand(dims)
    fast = checked(make(lambda m, x: m(fq8(x)), [Layer(dims)], [x]), [x])
    assert b.post_ops(fast) == [""] and has(fast, "quantize_affine_float8") == 1


@MAKES
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_post_op(make: b.Make, dims: int) -> None:
    x = operand(dims)
    fast = checked(make(lambda m, x: F.relu(m(fq8(x))), [Layer(dims)], [x]), [x])
    assert b.post_ops(fast) == ["relu"]


@pytest.mark.parametrize("dims", [0, 2])
def test_residual(dims: int) -> None:
    x = operand(dims)
    gm = net(lambda m, x, y: F.relu(m(fq8(x)) + y), [Layer(dims)], [x, Layer(dims)(x)])
    fast = checked(gm, [x, Layer(dims)(x)])
    assert b.post_ops(fast) == ["add+relu"]


def test_codes_survive_and_move() -> None:
    x = torch.randn(4, 6, 24)
    fast = checked(net(lambda m, x: m(fq8(fq8(x).transpose(0, 1))), [Layer()], [x]), [x])
    assert b.post_ops(fast) == [""] and has(fast, "quantize_affine_float8") == 1


def test_two_linears_run_as_one() -> None:
    x = torch.randn(4, 24)
    fast = checked(net(lambda m, n, x: (m(fq8(x)), n(fq8(x))), [Layer(), Layer(o=10)], [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"]


def test_a_chain_quantizes_between() -> None:
    """Within the contract the kernel can't store float8: it rounds twice."""
    x = torch.randn(4, 24)
    gm = net(lambda m, n, x: n(fq8(F.relu(m(fq8(x))), OUT_SCALE)), [Layer(), Layer(i=16)], [x])
    fast = checked(gm, [x])
    assert b.post_ops(fast) == ["relu", ""] and has(fast, "quantize_affine_float8") == 2


def test_float8_output_on_request() -> None:
    x = torch.randn(512, 24)
    gm = net(lambda m, x: q8(F.relu(m(fq8(x))), OUT_SCALE), [Layer()], [x])
    fast = qegraph.optimize(gm, rules=shipped())
    wanted, found = (each(x).view(torch.uint8).int() for each in (gm, fast))
    assert has(fast, "quantize_affine_float8") == 1 and b.post_ops(fast) == ["relu"]
    off = (wanted - found).abs()
    assert int(off.max()) <= 1 and float((off > 0).float().mean()) < 0.01


@pytest.mark.parametrize("case", ["float8 to uint8", "int8 weight", "e5m2", "uint8 activation"])
def test_what_does_not_fit(case: str) -> None:
    x = torch.randn(4, 24)
    runs: dict[str, tuple[Callable[..., Any], nn.Module]] = {
        "float8 to uint8": (lambda m, x: q(m(fq8(x)), OUT), Layer()),
        "int8 weight": (lambda m, x: m(fq8(x)), b.Linear()),
        "e5m2": (lambda m, x: m(_e5m2(x)), Layer()),
        "uint8 activation": (lambda m, x: m(b.fq(x)), Layer()),
    }
    function, part = runs[case]
    fast = checked(net(function, [part], [x]), [x])
    assert b.kinds(fast) == (["qlinear_pointwise.default"] if case == "float8 to uint8" else [])
    assert b.borders(fast)[0] == (case in ("float8 to uint8", "uint8 activation"))


def _e5m2(x: Tensor) -> Tensor:
    scale = torch.full([1], SCALE)
    codes = torch.ops.torchao.quantize_affine_float8_non_decomposed.default(x, scale, torch.float8_e5m2)
    return torch.ops.torchao.dequantize_affine_float8_non_decomposed.default(codes, scale)


def test_pools_stay_float() -> None:
    """There are no float8 pools."""
    x = operand(2)
    run = lambda x: q8(F.max_pool2d(fq8(x), 3) + F.avg_pool2d(fq8(x), 3))  # noqa: E731
    fast = checked(net(run, [], [x]), [x], rel=0.1)
    assert has(fast, "max_pool2d") == 1 and b.kinds(fast) == []


def test_scale_that_varies() -> None:
    """A scale computed at run time stays as it is."""
    x, scale = torch.randn(4, 24), torch.tensor([0.02])
    ops = torch.ops.torchao

    def run(m: nn.Module, x: Tensor, scale: Tensor) -> Tensor:
        codes = ops.quantize_affine_float8_non_decomposed.default(x, scale)
        return m(ops.dequantize_affine_float8_non_decomposed.default(codes, scale))

    assert b.kinds(checked(net(run, [Layer()], [x, scale]), [x, scale])) == []
