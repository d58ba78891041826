"""One small graph for each guard that a graph can fail: the rule, the guard, what it saw, and what would help."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN_S8, OUT, OUT_S8, QP, Conv, Linear, Weight, dq, fq, net, q
from torch import Tensor, nn

import qegraph
from qegraph import facts, kernels

qd = torch.ops.quantized_decomposed
WIDE = QP(0.001, 0, *b.WIDE[torch.int16], torch.int16)
NEGATIVE = QP(-0.03, 113)


class Constant(nn.Module):
    """Calling it gives the tensor."""

    tensor: Tensor

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.register_buffer("tensor", tensor)

    def forward(self) -> Tensor:
        return self.tensor


class Case(NamedTuple):
    """A graph, the node and the rule that are asked about, and what the answer must say; no rule: the nearest one."""

    function: Callable[..., Any]
    parts: Sequence[nn.Module]
    inputs: Sequence[Tensor]
    node: str
    asked: str | None
    rule: str
    observed: str
    fix: str


def per_channel(x: Tensor, m: Constant) -> Tensor:
    """Quantized and dequantized along dim 1 with scales m, zero points 0."""
    scales, zeros = m(), torch.zeros(24, dtype=torch.int64)
    codes = qd.quantize_per_channel.default(x, scales, zeros, 1, 0, 255, torch.uint8)
    return qd.dequantize_per_channel.default(codes, scales, zeros, 1, 0, 255, torch.uint8)


def rows() -> Tensor:
    return torch.randn(5, 24)


def spoiled(part: Linear, change: Callable[[Weight], None]) -> Linear:
    change(part.weight)
    return part


def _negative(weight: Weight) -> None:
    weight.scales = -weight.scales


def norm() -> nn.Module:
    return nn.BatchNorm2d(8).eval()


CASES: dict[str, Case] = {
    # what int8 kernels read
    "activation-params": Case(
        lambda m, s, x: m(per_channel(x, s)), [Linear(), Constant(torch.rand(24) + 0.1)], [rows()],
        "linear", None, "gemm-int8", "along axis 1, 0..255 of uint8", "per tensor",
    ),
    "activation-scale": Case(
        lambda m, x: m(fq(x, NEGATIVE)), [Linear()], [rows()],
        "linear", None, "gemm-int8", "scale -0.03, zero point 113, 0..255 of uint8", "calibrate",
    ),
    "activation-dtype": Case(
        lambda m, x: m(fq(x, WIDE)), [Linear()], [rows()],
        "linear", None, "gemm-int8", "(linear, int16); there is (linear, uint8)", "to uint8",
    ),
    "is-constant": Case(
        lambda x, y: F.linear(fq(x), fq(y, IN_S8)), [], [rows(), torch.randn(16, 24)],
        "linear", None, "gemm-int8", "quantize_per_tensor_1, Quantize, int8 [16, 24]", "parameter or buffer",
    ),
    "weight-dtype": Case(
        lambda w, x: F.linear(fq(x), dq(w(), QP(0.01, 0))), [Constant(torch.zeros(16, 24, dtype=torch.uint8))],
        [rows()], "linear", None, "gemm-int8", "(uint8, uint8); there is (uint8, int8)", "the weight to int8",
    ),
    "weight-symmetric": Case(
        lambda m, x: m(fq(x)), [Linear(zp=5)], [rows()],
        "linear", None, "gemm-int8", "zero points 5 (int64 [16])", "symmetrically, with zero point 0",
    ),
    "weight-axis": Case(
        lambda m, x: m(fq(x)), [Linear(16, 16, axis=1)], [torch.randn(5, 16)],
        "linear", None, "gemm-int8", "along axis 1", "along axis 0",
    ),
    "weight-scales": Case(
        lambda m, x: m(fq(x)), [spoiled(Linear(), _negative)], [rows()],
        "linear", None, "gemm-int8", "scales -0.00", "positive scales",
    ),
    "accumulator-fits": Case(
        lambda m, x: m(fq(x)), [Linear(66000, 2)], [torch.randn(1, 66000)],
        "linear", None, "gemm-int8", "a constant, int8 [2, 66000]", "split",
    ),
    # what they take in and store
    "kernel-accepts": Case(
        lambda m, x: F.silu(m(fq(x))), [Conv(3)], [b.image(3)],
        "silu", None, "post-op", "(conv3d, absent, float32, silu); there is (conv3d, absent, float32, identity)",
        "post-ops",
    ),
    "product-shape": Case(
        lambda m, x, y: m(fq(x)) + y, [Linear()], [rows(), torch.randn(3, 5, 16)],
        "add", "residual", "residual", "shape of linear is [5, 16]; shape of inputs_1 is [3, 5, 16]", "as large as",
    ),
    "spans-dtype": Case(
        lambda m, x: q(m(fq(x)), QP(0.01, 60, 0, 127, torch.int16)), [Linear()], [rows()],
        "quantize_per_tensor_1", None, "requantize", "zero point 60, 0..127 of int16", "0..255 of uint8",
    ),
    "stored-like": Case(
        lambda m, x, y: q(m(fq(x)) + fq(y, IN_S8), b.FULL_OUT), [Linear()], [rows(), torch.randn(5, 16)],
        "quantize_per_tensor_2", "requantize-residual", "requantize-residual",
        "dtype of quantize_per_tensor_1 is int8; q-dtype of scale 0.037, zero point 91, 0..255 of uint8 is uint8",
        "dtype of the output",
    ),
    "result-shape": Case(
        lambda m, x, y: m(fq(x)) + y, [Linear()], [rows(), torch.randn(3, 5, 16)],
        "add", "residual-broadcast", "residual-broadcast", "s is [5, 16]; shape of add is [3, 5, 16]", "the residual",
    ),
    "differs": Case(
        lambda m, x, y: m(fq(x)) + y, [Linear()], [rows(), torch.randn(5, 16)],
        "add", "residual-broadcast", "residual-broadcast", "s is [5, 16]; t is [5, 16]", "",
    ),
    "absorbs": Case(
        lambda x: F.relu(x.reshape(24, 5)), [], [rows()],
        "relu", "post-op-through-move", "post-op-through-move", "inputs_0, an input, float32 [5, 24]", "right behind",
    ),
    "bias-fits": Case(
        lambda w, v, x: F.linear(fq(x), w(), v()), [Weight(16, 24), Constant(torch.rand(1))], [rows()],
        "linear", None, "gemm-int8", "parts_1_tensor, a constant, float32 [1]", "(output channels,)",
    ),
    "cuts": Case(
        lambda m, x: m(fq(x))[:, ::2], [Linear()], [rows()],
        "slice_1", "part-as-linear", "part-as-linear", "is not known", "constant bounds",
    ),
    "accumulated": Case(
        lambda x: x.to(torch.bfloat16).reshape(24, 5), [], [rows()],
        "reshape", "move-of-cast", "move-of-cast", "inputs_0, an input", "",
    ),
    "is-half": Case(
        lambda x: fq(x).to(torch.bfloat16), [], [rows()],
        "to", "cast-of-half", "cast-of-half", "float32; there is bfloat16, float16", "",
    ),
    "has-dtype": Case(
        lambda x: F.max_pool2d(fq(x), 2), [], [b.image()],
        "max_pool2d", "max-pool-of-int8", "max-pool-of-int8", "dtype of dequantize_per_tensor is float32", "",
    ),
    "odd-window": Case(
        lambda x: F.avg_pool2d(fq(x), 2), [], [b.image()],
        "avg_pool2d", None, "average-pool-int8", "h is 2; w is 2", "an odd number",
    ),
    # one contraction as another
    "is-pointwise": Case(
        lambda m, x: m(fq(x)), [Conv(options={"padding": 0})], [b.image()],
        "conv2d", "conv-1x1-is-linear", "conv-1x1-is-linear", "shape of parts_0_weight_codes is [8, 8, 3, 3]", "",
    ),
    "is-unpadded": Case(
        lambda m, x: m(fq(x)), [Conv()], [b.image()],
        "conv2d", "zero-point-into-bias", "zero-point-into-bias", "padding [1, 1]", "padding-of-codes",
    ),
    "is-padded": Case(
        lambda m, x: m(fq(x)), [Conv(kernel=1)], [b.image()],
        "conv2d", "padding-of-codes", "padding-of-codes", "pd is [0, 0]", "",
    ),
    "nonzero-point": Case(
        lambda m, x: m(fq(x, b.usual(QP(0.03, 0)))), [Linear()], [rows()],
        "linear", "zero-point-into-bias", "zero-point-into-bias", "z is 0", "nothing",
    ),
    "offset-fits": Case(
        lambda m, x: m(fq(x)), [Conv(kernel=1)], [b.image()],
        "conv2d", "zero-point-into-bias", "zero-point-into-bias", "step of float32 is not known", "zero point",
    ),
    "next-of-same-operand": Case(
        lambda m, x: m(fq(x)), [Linear()], [rows()],
        "linear", "two-linears-as-one", "two-linears-as-one", "next-sibling of linear and", "one value",
    ),
    # laws of codes
    "narrower-than-dtype": Case(
        lambda x: q(x, b.FULL), [], [rows()],
        "quantize_per_tensor", "narrow-range", "narrow-range", "hi is 255", "",
    ),
    "per-tensor-params": Case(
        lambda s, x: per_channel(x, s).reshape(24, 5), [Constant(torch.rand(24) + 0.1)], [rows()],
        "reshape", "dequantize-through-move", "dequantize-through-move", "along axis 1", "whole tensor",
    ),
    "positive-scale": Case(
        lambda x: F.max_pool2d(fq(x, NEGATIVE), 2), [], [b.image()],
        "max_pool2d", None, "dequantize-through-max-pool", "scale -0.03", "above 0",
    ),
    "stores-bytes": Case(
        lambda x: q(F.relu(x), WIDE), [], [rows()],
        "quantize_per_tensor", "quantize-through-clamp", "quantize-through-clamp", "of int16", "uint8 or int8",
    ),
    "is-code": Case(
        lambda x: F.relu(fq(x, QP(0.03, 300))), [], [rows()],
        "relu", "relu-of-codes", "relu-of-codes", "z is 300; hi is 255", "quant_min..quant_max",
    ),
    "is-factor": Case(
        lambda x: fq(x) * -2.0, [], [rows()],
        "mul", "scaled-dequantize", "scaled-dequantize", "c is -2", "positive number",
    ),
    # norms, elementwise kernels, masks
    "norm-operand": Case(
        lambda n, x: n(fq(x, IN_S8)), [norm()], [b.image()],
        "batch_norm", "batch-norm-int8" if b.READS_INT8 else None, "batch-norm-int8",
        "dtype of quantize_per_tensor is int8", "to uint8",
    ),
    "stores-uint8": Case(
        lambda n, x: q(n(fq(x)), OUT_S8), [norm()], [b.image()],
        "quantize_per_tensor_1", "requantize-batch-norm", "requantize-batch-norm", "is int8", "to uint8",
    ),
    "saturates-at-zero": Case(
        lambda n, x: q(F.relu(n(fq(x))), b.FULL_OUT), [norm()], [b.image()],
        "quantize_per_tensor_1", "relu-of-batch-norm", "relu-of-batch-norm", "zero point 91", "quant_min",
    ),
    "elementwise-uint8": Case(
        lambda x, y: q(fq(x, IN_S8) + fq(y), OUT), [], [rows(), rows()],
        "quantize_per_tensor_2", None, "sum-of-codes", "is int8", "uint8, per tensor",
    ),
    "same-shape": Case(
        lambda x, y: q(fq(x) * fq(y), OUT), [], [rows(), torch.randn(24)],
        "quantize_per_tensor_2", None, "product-of-codes", "is [5, 24]; shape of quantize_per_tensor_1 is [24]",
        "one shape",
    ),
    "is-mask": Case(
        lambda x, y: torch.softmax(x + y, -1), [], [rows(), torch.randn(24)],
        "softmax", "mask-of-softmax", "mask-of-softmax", "rank of inputs_1 is 1; rank of inputs_0 is 2", "float32 mask",
    ),
    # spellings and moves
    "keeps-last-dim": Case(
        lambda m, x: m(fq(x).reshape(12, 4)), [Linear(4)], [torch.randn(6, 8)],
        "linear", "linear-through-view", "linear-through-view", "last-dim of reshape is 4; ", "keep the last",
    ),
    "keeps-first-dim": Case(
        lambda m, x: m().reshape(24, 16) + x, [Weight(16, 24)], [torch.randn(24, 16)],
        "reshape", "channels-through-view", "channels-through-view", "shape of parts_0_codes is [16, 24]", "first dim",
    ),
    "undoes": Case(
        lambda x: x.permute(1, 2, 0).permute(1, 2, 0), [], [torch.randn(2, 3, 4)],
        "permute_1", "permute-back", "permute-back", "permute [1, 2, 0]", "",
    ),
    "keeps-order": Case(
        lambda x: x.permute(1, 0), [], [rows()],
        "permute", "same-shape-again", "same-shape-again", "permute [1, 0]", "",
    ),
    "rank-is": Case(
        lambda w, x: fq(x) @ w(), [Weight(2, 24, 16, scale=0.01)], [torch.randn(2, 5, 24)],
        "matmul", "matmul-with-stored-matrix", "matmul-with-stored-matrix", "is 3", "reshape",
    ),
    "is-vector": Case(
        lambda m, x, y: F.linear(x, m.weight()) + y, [Linear()], [rows(), torch.randn(5, 16)],
        "add", "bias-of-linear", "bias-of-linear", "shape of inputs_1 is [5, 16]", "",
    ),
    "gates": Case(
        lambda x: x * torch.tanh(x), [], [rows()],
        "mul", "gate-of-itself", "gate-of-itself", "tanh", "",
    ),
    "close": Case(
        lambda x: x * torch.clamp(x + 2.0, 0.0, 6.0) / 6.0, [], [rows()],
        "div", "hardswish-of-clamp", "hardswish-of-clamp", "three is 2", "",
    ),
    "is-zero": Case(
        lambda x: x * torch.clamp(x + 3.0, 1.0, 6.0) / 6.0, [], [rows()],
        "div", "hardswish-of-clamp", "hardswish-of-clamp", "low is 1", "",
    ),
    "stacks": Case(
        lambda x, y: x @ y, [], [torch.randn(2, 5, 24), torch.randn(2, 24, 16)],
        "matmul", "batched-matmul-is-linear", "batched-matmul-is-linear", "inputs_1, an input", "",
    ),
    "bag-rows": Case(
        lambda w, i, o: F.embedding_bag(i, w(), o, mode="sum", include_last_offset=True),
        [Weight(10, 64, scale=0.01, zp=5)], [torch.tensor([0, 3, 1, 2]), torch.tensor([0, 2, 4])],
        "getitem", None, "embedding-bag-of-codes", "zero point 5", "zero point 0",
    ),
    "is-nonzero": Case(
        lambda x: x / 0.0, [], [rows()],
        "div", "division-by-constant", "division-by-constant", "c is 0", "another number",
    ),
    # factors and narrow weights
    "per-output": Case(
        lambda m, c, x: m(fq(x)) * c(), [Linear(), Constant(torch.rand(5, 1))], [rows()],
        "mul", "factor-of-output", "factor-of-output", "parts_1_tensor, a constant, float32 [5, 1]", "output channels",
    ),
    "keeps-shape": Case(
        lambda m, c, x: c() * m(fq(x)), [Linear(), Constant(torch.rand(1, 1, 16))], [rows()],
        "mul", "factor-of-output", "factor-of-output", "shape of linear is [5, 16]; shape of mul is [1, 5, 16]",
        "one shape",
    ),
    "scale-per-output": Case(
        lambda w, s, x: F.linear(x, w().float()) * s(),
        [Constant(torch.ones(16, 24, dtype=torch.int8)), Constant(torch.rand(1))], [rows()],
        "mul", None, "weight-only-int8", "shape of parts_1_tensor is [1]", "(outputs,)",
    ),
    "is-per-row": Case(
        lambda m, r, c, x: m(fq(x)) * r() * c(), [Linear(), Constant(torch.rand(16)), Constant(torch.rand(16))],
        [rows()], "mul_1", "columns-before-rows", "columns-before-rows", "last-dim of parts_1_tensor is 16",
        "(rows, 1)",
    ),
    "one-element": Case(
        lambda m, x, r: m(fq(x, QP(1.0, 3, 0, b.highest_exact_code()))) * r, [Linear(bias=False)],
        [rows(), torch.rand(5, 1)],
        "mul", "scale-of-activation", "scale-of-activation", "inputs_1, an input, float32 [5, 1]", "one scale",
    ),
    "scalable": Case(
        lambda c, x: x.reshape(5, 1, 24) * c(), [Constant(torch.rand(24))], [rows()],
        "mul", "factor-through-view", "factor-through-view", "inputs_0, an input", "behind the contraction",
    ),
    "channels-at-1": Case(
        lambda m, n, x: n(m(fq(x))), [Linear(), nn.BatchNorm1d(6).eval()], [torch.randn(2, 6, 24)],
        "batch_norm", "norm-of-output", "norm-of-output", "rank of linear is 3", "dim 1",
    ),
    "is-finite": Case(
        lambda w, x: F.linear(x, w().float()), [Constant(torch.full((16, 24), torch.inf, dtype=torch.float16))],
        [rows()], "linear", None, "linear-fp16", "float16 [16, 24]", "clamp",
    ),
    "weight-only-fits": Case(
        lambda w, s, x: F.linear(x, w().bfloat16()) * s(),
        [Constant(torch.ones(16, 24, dtype=torch.int8)), Constant(torch.rand(16).bfloat16())], [rows().bfloat16()],
        "mul", None, "weight-only-int8", "int8 [16, 24]", "multiple of 16",
    ),
    "is-column": Case(
        lambda w, s, x: F.linear(x, w().float() * s()),
        [Constant(torch.ones(16, 24, dtype=torch.int8)), Constant(torch.rand(1, 24))], [rows()],
        "linear", "scale-of-weight", "scale-of-weight", "shape of parts_1_tensor is [1, 24]", "(outputs, 1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("guard", CASES)
def test_guard(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the node, the rule lacks this guard; the text has all of it."""
    monkeypatch.setattr(facts, "optional_kernels", lambda: (*kernels.OPTIONAL, *kernels.ELEMENTWISE))
    case = CASES[guard]
    answer = qegraph.why_not(net(case.function, case.parts, case.inputs), case.node, case.asked)
    found = answer.root
    assert (found.rule, found.verdict, found.guard) == (case.rule, "guard fails", guard), str(answer)
    assert case.observed in found.observed, str(answer)
    assert case.fix in found.fix and bool(case.fix) == bool(found.fix), str(answer)
    text = str(answer)
    assert len(text.splitlines()) <= 8
    assert all(each in text for each in (case.rule, guard, found.reason, case.observed, case.fix))


MACHINES: dict[str, tuple[str, Any, Case]] = {
    "activation-exact-on-this-cpu": ("adds_in_32_bits", lambda: False, CASES["product-shape"]._replace(
        function=lambda m, x, y: m(fq(x, b.FULL)) + y, node="linear", asked="gemm-int8", rule="gemm-int8",
        observed="quantize_per_tensor", fix="VNNI",
    )),
    "kernel-present": ("optional_kernels", lambda: ["weight_only"], CASES["norm-operand"]._replace(
        observed="qbatch_norm2d; there is weight_only", fix="that has it",
    )),
    "elementwise-right-here": ("optional_kernels", lambda: ["weight_only"], CASES["elementwise-uint8"]._replace(
        observed="qadd; there is weight_only", fix="self-test",
    )),
}  # fmt: skip


@pytest.mark.parametrize("guard", MACHINES)
def test_guard_that_asks_the_machine(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, verdict, case = MACHINES[guard]
    monkeypatch.setattr(facts, name, verdict)
    found = qegraph.why_not(net(case.function, case.parts, case.inputs), case.node, case.asked).root
    assert (found.rule, found.guard) == (case.rule, guard)
    assert case.observed in found.observed and case.fix in found.fix
