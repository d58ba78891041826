"""The wrong results and crashes of the reference passes, by their number in the feature inventory: none may return."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, IN_S8, OUT, QP, Conv, Linear, Weight, checked, dq, fq, net, q
from torch import Tensor, nn
from torch._inductor import config as inductor_config

import qegraph

NARROW = [QP(0.01, 60, 0, 127), QP(0.01, 3, -127, 127, torch.int8), QP(0.01, 100, 20, 200)]


@pytest.mark.parametrize("p", NARROW, ids=str)
@pytest.mark.parametrize("part", [Linear, Conv])
def test_d01_narrow_output_range(part: Callable[[], nn.Module], p: QP) -> None:
    """The reference drops qmin and qmax, and clamps to the range of the dtype."""
    x = torch.randn(5, 24) * 4 if part is Linear else b.image() * 4
    gm = net(lambda m, x: q(m(fq(x)), p), [part()], [x])
    fast = checked(gm, [x])
    codes = fast(x)
    assert int(codes.min()) == p.lo and int(codes.max()) == p.hi
    (kernel,) = qegraph.explain(fast).contractions
    assert kernel.post_ops == ("hardtanh",) and b.borders(fast) == (1, 0) and not b.has(fast, "clamp")


def test_d02_residual_is_a_graph_input() -> None:
    """The reference adds in place, into the caller's tensor."""
    x, y = torch.randn(5, 24), torch.randn(5, 16)
    gm = net(lambda m, x, y: m(fq(x)) + y, [Linear()], [x, y])
    fast = checked(gm, [x, y])
    assert fast(x, y).data_ptr() != y.data_ptr()
    assert b.post_ops(fast) == ["add"] and not b.has(fast, "aten.add")


def test_d02_residual_is_returned_too() -> None:
    """The reference adds into a value that is read again."""
    x = torch.randn(5, 24)

    def function(m: nn.Module, n: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m(fq(x))
        return h, n(fq(x)) + h

    fast = checked(net(function, [Linear(), Linear()], [x]), [x])
    assert sorted(b.post_ops(fast)) in (["", "add"], [""])  # or both as one


def _twice(x: Tensor) -> Tensor:
    return x + x


D03: dict[str, tuple[Callable[..., Tensor], list[str]]] = {
    "relu(l(x)) + y": (lambda m, n, x, y: F.relu(m(x)) + y, ["relu"]),
    "gelu(l(x)) + y": (lambda m, n, x, y: F.gelu(m(x)) + y, ["gelu"]),
    "relu(l(x)) + relu(n(x))": (lambda m, n, x, y: F.relu(m(x)) + F.relu(n(x)), ["relu"]),
    "relu(n(h)) + h": (lambda m, n, x, y: F.relu(n(x)) + m(x), ["relu", ""]),
    "l(x) + l(x)": (lambda m, n, x, y: _twice(m(x)), [""]),
}


@pytest.mark.parametrize("case", D03)
def test_d03_fused_unary_then_add(case: str) -> None:
    """The reference fuses the unary, then asserts that it hasn't; y + y aborts as well."""
    function, fused = D03[case]
    x, y = torch.randn(5, 24), torch.randn(5, 16)
    gm = net(lambda m, n, x, y: function(m, n, fq(x), y), [Linear(), Linear()], [x, y])
    fast = checked(gm, [x, y])
    found = b.post_ops(fast)
    if case == "relu(n(h)) + h":
        assert sorted(found) in (sorted(fused), ["add", "relu"], [""])
    elif case == "l(x) + l(x)":
        assert set(found) <= {"", "add"} and found
    else:
        assert found == fused
    as_one = case == "relu(n(h)) + h" and found == [""]
    assert not qegraph.explain(fast).floats() and b.has(fast, "aten.relu") == as_one and not b.has(fast, "aten.gelu")


@pytest.mark.parametrize("alpha", [2, 0.5, -1])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_d04_alpha(part: Callable[[], nn.Module], alpha: float) -> None:
    """The reference ignores alpha."""
    x = torch.randn(5, 24) if part is Linear else b.image()
    y = torch.randn(5, 16) if part is Linear else b.image()
    gm = net(lambda m, x, y: q(torch.add(m(fq(x)), y, alpha=alpha), OUT), [part()], [x, y])
    assert len(b.post_ops(checked(gm, [x, y]))) == 1


def test_d04_alpha_on_the_kernel_side() -> None:
    """The same with the product as the scaled operand."""
    x, y = torch.randn(5, 24), torch.randn(5, 16)
    gm = net(lambda m, x, y: torch.add(y, m(fq(x)), alpha=3), [Linear()], [x, y])
    assert len(b.post_ops(checked(gm, [x, y]))) == 1


def _half(m: Weight, bias: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    return F.relu(F.linear(fq(x).to(dtype), m().to(dtype), bias.to(dtype)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_d05_half_autocast(dtype: torch.dtype) -> None:
    """The reference returns bfloat16 for float16, or aborts at the relu."""
    x, bias = torch.randn(5, 24), torch.randn(16)
    gm = net(lambda m, x, bias: _half(m, bias, x, dtype), [Weight(16, 24)], [x, bias])
    assert checked(gm, [x, bias], rel=1e-2)(x, bias).dtype == dtype


class _Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            return self.linear(fq(x))


def test_d05_inside_autocast() -> None:
    """The same as autocast writes it."""
    x = torch.randn(5, 24)
    fast = checked(b.build(_Autocast(), [x]), [x], rel=1e-2)
    assert fast(x).dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_d06_dequantize_to_half(dtype: torch.dtype) -> None:
    """The reference takes out_dtype=bfloat16 for float32."""
    x, bias = torch.randn(5, 24), torch.randn(16, dtype=dtype)
    gm = net(lambda m, x, bias: F.linear(dq(q(x), IN, dtype), m(), bias), [Weight(16, 24, out_dtype=dtype)], [x, bias])
    assert checked(gm, [x, bias], rel=1e-2)(x, bias).dtype == dtype


@pytest.mark.parametrize("scale", [None, 0.01], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_d07_weight_zero_point(part: Callable[..., nn.Module], scale: float | None) -> None:
    """The kernels ignore a weight's zero point."""
    x = torch.randn(5, 24) if part is Linear else b.image()
    gm = net(lambda m, x: m(fq(x)), [part(zp=5, scale=scale)], [x])
    assert "zero" in b.stays_float(checked(gm, [x]))


@pytest.mark.parametrize("part", [Linear, Conv])
def test_d08_scales_along_the_inputs(part: Callable[..., nn.Module]) -> None:
    """The reference applies the scales of axis 1 along axis 0."""
    x = torch.randn(5, 16) if part is Linear else b.image()
    gm = net(lambda m, x: m(fq(x)), [part(16, 16, axis=1) if part is Linear else part(axis=1)], [x])
    assert b.stays_float(checked(gm, [x]))


def test_d09_view_changes_the_inner_size() -> None:
    """The reference drops the reshape and calls the kernel with the wrong K."""
    x = torch.randn(6, 8)
    gm = net(lambda m, x: m(fq(x).reshape(12, 4)), [Linear(4)], [x])
    assert checked(gm, [x])(x).shape == (12, 16)


@pytest.mark.parametrize("make", [b.net, b.decomposed])
def test_d09_view_regroups_the_outer_sizes(make: Callable[..., torch.fx.GraphModule]) -> None:
    """The reference returns (2, 3, 8) instead of (3, 2, 8)."""
    x = torch.randn(2, 3, 24)
    gm = make(lambda m, x: m(fq(x).reshape(6, 24)).reshape(3, 2, 16), [Linear()], [x])
    fast = checked(gm, [x])
    assert fast(x).shape == (3, 2, 16) and b.post_ops(fast) == [""]


@pytest.mark.parametrize("make", [b.net, b.decomposed])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_d10_transposed_convolution(make: Callable[..., torch.fx.GraphModule], dims: int) -> None:
    """The reference takes it for an ordinary convolution."""
    x = b.image(dims)
    transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    gm = make(lambda w, x: transposed(fq(x), w(), padding=1), [Weight(8, 8, *[3] * dims)], [x])
    fast = checked(gm, [x])
    assert b.kinds(fast) == [] and b.has(fast, "conv")


@b.full_range
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_d11_int8_activation_of_a_convolution(dims: int) -> None:
    """The kernel refuses int8: the reference fails at run time."""
    codes = q(b.image(dims), IN_S8)
    gm = net(lambda m, x: F.relu(m(dq(x, IN_S8))), [Conv(dims)], [codes])
    fast = checked(gm, [codes])
    assert b.post_ops(fast) == (["relu"] if dims < 3 else [""])  # conv3d kernels take nothing in
    assert b.borders(fast) == (0, 0) and b.has(fast, "xor") == 1


@b.full_range
def test_d11_int8_between_convolutions() -> None:
    """The same with the int8 codes made inside: nothing need convert them."""
    x = b.image()
    gm = net(lambda m, n, x: n(fq(m(fq(x, IN_S8)), IN_S8)), [Conv(), Conv()], [x])
    fast = checked(gm, [x])
    assert b.post_ops(fast) == ["", ""] and b.borders(fast) == (1, 0)


def test_d11_max_pool_of_int8() -> None:
    """quantized.max_pool2d has no int8 kernel."""
    x = b.image()
    gm = net(lambda x: q(F.max_pool2d(fq(x, IN_S8), 2), IN_S8), [], [x])
    assert checked(gm, [x])(x).dtype == torch.int8


@pytest.mark.parametrize("other", [QP(0.1, 20), QP(0.031, 90), QP(0.031, 113, 0, 127), IN_S8], ids=str)
def test_d12_max_pool_that_requantizes(other: QP) -> None:
    """The reference drops the requantization."""
    x = b.image()
    gm = net(lambda x: q(F.max_pool2d(fq(x), 3, 2, 1), other), [], [x])
    checked(gm, [x])


def test_d13_cat_of_both_signs() -> None:
    """The reference concatenates uint8 and int8 codes, which promotes them to int16."""
    x, y = torch.randn(3, 8), torch.randn(3, 8)
    same = QP(0.05, 10), QP(0.05, 10, -128, 127, torch.int8)
    gm = net(lambda x, y: q(torch.cat([fq(x, same[0]), fq(y, same[1])], 1), same[0]), [], [x, y])
    assert checked(gm, [x, y])(x, y).dtype == torch.uint8


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("part", [Linear, Conv])
def test_d14_wide_output(part: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    """The reference aborts at a quantize to int16 or int32."""
    x = torch.randn(5, 24) if part is Linear else b.image()
    p = QP(0.01, 7, *b.WIDE[dtype], dtype)
    fast = checked(net(lambda m, x: q(F.relu(m(fq(x))), p), [part()], [x]), [x])
    assert fast(x).dtype == dtype and b.post_ops(fast) == ["relu"] and b.borders(fast) == (2, 0)


REFERENCE_FAILS: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
    "d01": (test_d01_narrow_output_range, (Linear, NARROW[0])),
    "d02": (test_d02_residual_is_a_graph_input, ()),
    **{f"d03 {case}": (test_d03_fused_unary_then_add, (case,)) for case in D03},
    "d04": (test_d04_alpha, (Linear, 2)),
    "d05": (test_d05_inside_autocast, ()),
    "d06": (test_d06_dequantize_to_half, (torch.bfloat16,)),
    "d07": (test_d07_weight_zero_point, (Conv, None)),
    "d08": (test_d08_scales_along_the_inputs, (Linear,)),
    "d09": (test_d09_view_regroups_the_outer_sizes, (b.net,)),
    "d10": (test_d10_transposed_convolution, (b.net, 2)),
    "d11": (test_d11_int8_activation_of_a_convolution, (2,)),
    "d11 max-pool": (test_d11_max_pool_of_int8, ()),
    "d12": (test_d12_max_pool_that_requantizes, (QP(0.1, 20),)),
    "d13": (test_d13_cat_of_both_signs, ()),
    "d14": (test_d14_wide_output, (Linear, torch.int16)),
}


class _ReferenceIsRight(Exception):
    pass


@pytest.mark.zoo
@pytest.mark.parametrize("case", REFERENCE_FAILS)
def test_the_reference_fails(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tests can fail: torch.compile with freezing, in the place of optimize, gets each of them wrong."""

    def reference(gm: torch.fx.GraphModule, inputs: list[Tensor], rel: float = 1e-5) -> None:
        torch.compiler.reset()
        b.agrees(gm, torch.compile(copy.deepcopy(gm)), inputs, rel)
        raise _ReferenceIsRight

    monkeypatch.setitem(globals(), "checked", reference)
    test, arguments = REFERENCE_FAILS[case]
    with inductor_config.patch(freezing=True), pytest.raises(Exception) as failure:
        test(*arguments)
    assert not isinstance(failure.value, _ReferenceIsRight)
