"""Products with int8 and half-float weights that are widened in the graph."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import checked, decomposed, has, net
from torch import Tensor, nn
from torch.fx import GraphModule

import qegraph
from qegraph.capture import capture
from qegraph.load_rules import by_name
from qegraph.nearmiss import nearest
from qegraph.pricing import CostFunction, default_cost
from qegraph.search import search
from qegraph.snapshot import ENode, Snapshot

aten = torch.ops.aten
K, N = 256, 320
MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])


class Codes(nn.Module):
    """An int8 weight and its scales, used as whatever dtype is asked for."""

    def __init__(self, *shape: int, n: int = N, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.w = nn.Buffer(torch.randint(-128, 128, shape or (n, K), dtype=torch.int8))
        self.s = nn.Buffer((torch.rand(n) * 0.01 + 0.001).to(dtype))


class Product(nn.Module):
    def __init__(self, codes: Codes) -> None:
        super().__init__()
        self.codes = codes

    def forward(self, x: Tensor) -> Tensor:
        return SPELLINGS["linear"](self.codes, x)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


def closer(gm: GraphModule, inputs: list[Tensor], exact: Tensor, cost: CostFunction = default_cost) -> GraphModule:
    """The optimised graph; its result must not be further from `exact` than the source's."""
    fast = qegraph.optimize(gm, cost=cost)
    wanted, found = gm(*inputs), fast(*inputs)
    assert (wanted.dtype, wanted.shape) == (found.dtype, found.shape)
    assert error(found, exact) <= max(error(wanted, exact), 1e-5)
    return fast


def product(x: Tensor, c: Codes) -> Tensor:
    """x @ w.T * s in float64, for w (N, K)."""
    return x.double() @ c.w.double().T * c.s.double()


SPELLINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda c, x: F.linear(x, c.w.to(x.dtype)) * c.s,
    "reshape, mm of permute(convert)": lambda c, x: (
        (x.reshape(-1, K) @ c.w.to(x.dtype).permute(1, 0)).reshape(2, 3, N) * c.s
    ),
    "bmm of expands": lambda c, x: torch.bmm(x.expand(2, 3, K), c.w.to(x.dtype).permute(1, 0).expand(2, K, N)) * c.s,
    "mm of convert(permute)": lambda c, x: torch.mm(x.reshape(6, K), c.w.permute(1, 0).to(x.dtype)) * c.s,
    "scaled before": lambda c, x: F.linear(x, c.w.to(x.dtype) * c.s[:, None]),
}


@MAKES
@pytest.mark.parametrize("name", SPELLINGS)
def test_weight_only_spellings(make: b.Make, name: str) -> None:
    c, x = Codes(), torch.randn(2, 3, K).bfloat16()
    gm = make(SPELLINGS[name], [c], [x])
    exact = product(x, c)
    fast = closer(gm, [x], exact.reshape(gm(x).shape))
    assert has(fast, "_weight_int8pack_mm") == 1 and not has(fast, "aten.mm") and not has(fast, "aten.to")


@MAKES
def test_weight_only_of_a_matrix_viewed_afterwards(make: b.Make) -> None:
    c, x = Codes(), torch.randn(6, K).bfloat16()
    gm = make(lambda c, x: (x @ c.w.to(x.dtype).permute(1, 0)).reshape(2, 3, N) * c.s, [c], [x])
    assert has(closer(gm, [x], product(x, c).reshape(2, 3, N)), "_weight_int8pack_mm") == 1


def favoured(snapshot: Snapshot, node: ENode) -> float:
    """The kernel is free, so that it is chosen whatever this machine makes of it."""
    return 0.0 if node.op == "WeightOnly" else default_cost(snapshot, node)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 320, 256), (5, 37, 48), (33, 7, 16)])
def test_weight_only_dtypes(dtype: torch.dtype, m: int, n: int, k: int) -> None:
    c, x = Codes(n, k, n=n, dtype=dtype), torch.randn(m, k).to(dtype)
    fast = closer(net(SPELLINGS["linear"], [c], [x]), [x], product(x, c), favoured)
    assert has(fast, "_weight_int8pack_mm") == 1


def test_weight_only_depth() -> None:
    """float32 and float16 take any depth."""
    c, x = Codes(7, 30, n=7, dtype=torch.float32), torch.randn(4, 30)
    fast = closer(net(SPELLINGS["linear"], [c], [x]), [x], product(x, c), favoured)
    assert has(fast, "_weight_int8pack_mm") == 1


def test_weight_only_of_a_batch_of_any_size() -> None:
    c, x = Codes(), torch.randn(3, 2, K).bfloat16()
    module = Product(c)
    gm = b.build(module, [x], {"x": {0: torch.export.Dim("batch", max=8)}}, strict=False)
    closer(gm, [x[:2]], product(x[:2], c))
    assert has(closer(gm, [x], product(x, c)), "_weight_int8pack_mm") == 1


@MAKES
def test_weight_only_of_a_strided_activation(make: b.Make) -> None:
    c, x = Codes(), torch.randn(K, 4).bfloat16()
    gm = make(lambda c, x: F.linear(x.t(), c.w.to(x.dtype)) * c.s, [c], [x])
    assert has(closer(gm, [x], product(x.t(), c)), "_weight_int8pack_mm") == 1


@MAKES
@pytest.mark.parametrize("count", [2, 3, 4])
def test_weight_only_of_joined_weights(make: b.Make, count: int) -> None:
    """One product, over weights joined when the graph is emitted."""
    parts = [Codes() for _ in range(count)]
    x = torch.randn(4, K).bfloat16()
    scales = nn.ParameterList([torch.cat([c.s for c in parts])]).requires_grad_(False)

    def joined(*args: Any) -> Tensor:
        *codes, s, x = args
        return torch.mm(x, torch.cat([c.w.permute(1, 0).to(x.dtype) for c in codes], 1)) * s[0]

    gm = make(joined, [*parts, scales], [x])
    fast = closer(gm, [x], torch.cat([product(x, c) for c in parts], -1))
    assert has(fast, "_weight_int8pack_mm") == 1 and not has(fast, "cat")


NOT_WEIGHT_ONLY: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "scales of another dtype": lambda c, x: F.linear(x, c.w.to(x.dtype)) * c.s.float(),
    "scales of rows": lambda c, x: F.linear(x, c.w.to(x.dtype)) * c.s[:N, None][:4],
    "one scale": lambda c, x: F.linear(x, c.w.to(x.dtype)) * c.s[:1],
    "weight is computed": lambda c, x: F.linear(x, (c.w + x[0, :1].to(torch.int8)).to(x.dtype)) * c.s,
    "uint8": lambda c, x: F.linear(x, c.w.view(torch.uint8).to(x.dtype)) * c.s,
    "no multiple of 16": lambda c, x: F.linear(x[:, :250], c.w[:, :250].to(x.dtype)) * c.s,
    "scales are computed": lambda c, x: F.linear(x, c.w.to(x.dtype)) * (c.s * x[0, 0]),
}


@pytest.mark.parametrize("name", NOT_WEIGHT_ONLY)
def test_weight_only_that_stays(name: str) -> None:
    c, x = Codes(), torch.randn(4, K).bfloat16()
    gm = net(NOT_WEIGHT_ONLY[name], [c], [x])
    fast = qegraph.optimize(gm)
    torch.testing.assert_close(fast(x), gm(x), rtol=0, atol=0)
    assert not has(fast, "_weight_int8pack_mm")


def test_weight_only_costs_more_for_many_rows() -> None:
    c, x = Codes(), torch.randn(512, K).bfloat16()
    assert not has(qegraph.optimize(net(SPELLINGS["linear"], [c], [x])), "_weight_int8pack_mm")


def test_a_returned_conversion_is_new_on_every_call() -> None:
    c, x = Codes(4, 4, n=4), torch.randn(4, 4)
    fast = qegraph.optimize(net(lambda c, x: (c.w.to(torch.float32), x + 1), [c], [x]))
    first = fast(x)[0]
    first.zero_()
    assert torch.equal(fast(x)[0], c.w.float())


def test_small_conversions_are_folded() -> None:
    c, x = Codes(16, 16, n=16), torch.randn(4, 16)
    fast = checked(net(lambda c, x: x @ c.w.to(torch.float32), [c], [x]), [x])
    assert not has(fast, "aten.to")


# -- half floats -------------------------------------------------------------------------------------------------------


class Half(nn.Module):
    """A linear whose weight went through float16; `stored` keeps it so."""

    def __init__(self, stored: bool, bias: bool, cast: Callable[[Tensor, torch.dtype], Tensor] = Tensor.to) -> None:
        super().__init__()
        w = torch.randn(N, K) / 16
        self.w = nn.Buffer(w.half() if stored else w)
        self.bias = nn.Buffer(torch.randn(N)) if bias else None
        self.stored, self.cast = stored, cast

    def forward(self, x: Tensor) -> Tensor:
        half = self.w if self.stored else self.cast(self.w, torch.float16)
        return F.linear(x, self.cast(half, torch.float32), self.bias)


no_fuse: Any = torch.ops.quantized_decomposed.convert_element_type.no_fuse
convert: Any = torch.ops.prims.convert_element_type.default


@MAKES
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(64, K), (2, 32, K), (2, 2, 16, K)], ids=str)
def test_half_linear(make: b.Make, stored: bool, bias: bool, relu: bool, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    fast = checked(make(lambda f, x: F.relu(f(x)) if relu else f(x), [Half(stored, bias)], [x]), [x])
    assert b.kinds(fast) == [f"linear_{'relu_' if relu else ''}dynamic_fp16.default"]
    assert not has(fast, "aten.to") and not has(fast, "relu.default")


@pytest.mark.parametrize("cast", [no_fuse, convert], ids=["no_fuse", "prims"])
def test_half_linear_conversions(cast: Any) -> None:
    x = torch.randn(64, K)
    gm = net(lambda f, x: f(x), [Half(False, True, cast)], [x])
    assert b.kinds(checked(gm, [x])) == ["linear_dynamic_fp16.default"]


@pytest.mark.parametrize("case", ["bfloat16", "double rounding", "relu of more", "small"])
def test_half_linear_that_stays(case: str) -> None:
    x, part = torch.randn(64, K), Half(case == "relu of more", True)
    function: Callable[..., Any] = lambda f, x: f(x)  # noqa: E731
    if case == "bfloat16":
        function = lambda f, x: F.linear(x, f.w.to(torch.bfloat16).to(torch.float32), f.bias)  # noqa: E731
    elif case == "double rounding":
        function = lambda f, x: F.linear(x.half(), f.w.half(), f.bias.half())  # noqa: E731
    elif case == "relu of more":
        function = lambda f, x: F.leaky_relu(f(x))  # noqa: E731
    else:
        x, part.w = x[:, :16], nn.Buffer(part.w[:, :16].contiguous())
    fast = checked(net(function, [part], [x]), [x])
    assert "linear_relu_dynamic_fp16.default" not in b.kinds(fast)
    assert (b.kinds(fast) == []) == (case != "relu of more")


@pytest.mark.parametrize("stored", [True, False])
def test_half_weight_out_of_range(stored: bool) -> None:
    """The kernel would saturate where the graph has an infinity."""
    part, x = Half(stored, False), torch.rand(64, K)
    part.w[0, 0] = 1e5
    gm = net(lambda f, x: f(x), [part], [x])
    fast = qegraph.optimize(gm)
    assert b.kinds(fast) == [] and bool(fast(x)[:, 0].isinf().all())


def test_half_linear_compiled_and_copied() -> None:
    x = torch.randn(64, K)
    fast = qegraph.optimize(net(lambda f, x: F.relu(f(x)), [Half(True, True)], [x]))
    wanted = fast(x)
    torch.testing.assert_close(copy.deepcopy(fast)(x), wanted, rtol=0, atol=0)
    torch.testing.assert_close(torch.compile(fast)(x), wanted, rtol=0, atol=0)


def test_narrow_weights_in_the_report() -> None:
    x = torch.randn(64, K)
    fast = qegraph.optimize(net(lambda f, x: f(x), [Half(True, True)], [x]), target="compiled")
    assert "1 linear with float16 weight" in qegraph.explain(fast).summary


# -- int4 --------------------------------------------------------------------------------------------------------------


class Int4(nn.Module):
    """A linear over packed 4-bit weights; `kept` are the packed weight and what aten makes of its groups."""

    def __init__(self, n: int = 64, k: int = 128, group: int = 32, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        codes = torch.randint(0, 16, (n, k), dtype=torch.int32)
        self.codes = nn.Buffer(aten._convert_weight_to_int4pack_for_cpu(codes, 1))
        self.params = nn.Buffer(
            torch.stack([torch.rand(k // group, n) * 0.01, torch.randn(k // group, n)], -1).to(dtype)
        )
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        return aten._weight_int4pack_mm_for_cpu(x, self.codes, self.group, self.params)


def each(*args: Any) -> tuple[Tensor, ...]:
    *parts, x = args
    return tuple(torch.sin(part(x)) for part in parts)  # results themselves would have to be copied


def int4_products(gm: GraphModule, *inputs: Tensor) -> int:
    """How many products the optimised graph runs, after asserting that their results are the same bits."""
    fast = qegraph.optimize(gm, target="compiled")
    for wanted, found in zip(gm(*inputs), fast(*inputs), strict=True):
        assert torch.equal(wanted, found) and found.is_contiguous()
    return has(fast, "_weight_int4pack_mm_for_cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("sizes", [(64, 64), (192, 64, 64), (128, 64, 64, 80), (64, 128, 16)], ids=str)
@pytest.mark.parametrize("rows", [1, 7])
def test_int4_products_run_as_one(dtype: torch.dtype, sizes: tuple[int, ...], rows: int) -> None:
    x = torch.randn(rows, 128).to(dtype)
    gm = net(each, [Int4(n, dtype=dtype) for n in sizes], [x])
    assert int4_products(gm, x) == 1


def test_int4_of_any_group_size() -> None:
    x = torch.randn(4, 512).bfloat16()
    for group in (32, 64, 128, 256):
        assert int4_products(net(each, [Int4(k=512, group=group) for _ in range(3)], [x]), x) == 1


def test_int4_beside_other_readers() -> None:
    x = torch.randn(4, 128).bfloat16()
    gm = net(lambda f, g, x: (torch.sin(f(x)), x * 2, F.silu(g(x)), x.sum(-1)), [Int4(), Int4()], [x])
    assert int4_products(gm, x) == 1


def test_int4_of_int4() -> None:
    """The kernel refuses an activation that is a part of a joined product, as it is no dense matrix."""
    x = torch.randn(4, 128).bfloat16()
    parts = [Int4(128), Int4(128), Int4(64), Int4(64), Int4(64)]
    gm = net(lambda a, b, c, d, e, x: tuple(map(torch.sin, (b(x), c(a(x)), d(a(x)), e(a(x) * 2)))), parts, [x])
    assert int4_products(gm, x) == 3


def test_int4_of_a_batch_of_any_size() -> None:
    x = torch.randn(6, 128).bfloat16()
    gm = b.build(b.Net(each, [Int4(), Int4()]), [x], (({0: torch.export.Dim("rows", max=64)},),), strict=False)
    assert int4_products(gm, x) == int4_products(gm, x[:3]) == 1


def test_int4_in_the_report_compiled_and_copied() -> None:
    x = torch.randn(4, 128).bfloat16()
    fast = qegraph.optimize(net(each, [Int4(), Int4()], [x]), target="compiled")
    assert qegraph.explain(fast).summary == "1 linear with int4 weight: 0 int8; left: nothing"
    for other in (copy.deepcopy(fast), torch.compile(fast)):
        for wanted, found in zip(fast(x), other(x), strict=True):
            assert torch.equal(wanted, found)


def left_out(gm: GraphModule) -> set[str]:
    """Names of the guards that kept products from running with a later one."""
    found = search(capture(gm))
    products = {node.eclass for node in found.snapshot.nodes if node.op == "QGemm"}
    near = [nearest(found.tables, by_name("two-linears-as-one"), eclass) for eclass in sorted(products)]
    return {each.guard.name for each in near if each.guard is not None}


INT4_ALONE: dict[str, tuple[str, Callable[[], Int4]]] = {
    "weight is computed": ("next-of-same-operand", Int4),
    "scales are computed": ("next-of-same-operand", Int4),
    "another group size": ("next-of-same-operand", lambda: Int4(group=64)),
    "half a block": ("whole-blocks", lambda: Int4(96)),
}


@pytest.mark.parametrize("case", INT4_ALONE)
def test_int4_that_is_left_out(case: str) -> None:
    """The one in the middle; those before and after it run as one, if it is none of theirs."""
    reason, make = INT4_ALONE[case]
    x = torch.randn(4, 128).bfloat16()

    def run(f: Int4, g: Int4, h: Int4, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        codes = g.codes ^ y if "weight" in case else g.codes
        params = g.params * z if "scales" in case else g.params
        products = (f(x), aten._weight_int4pack_mm_for_cpu(x, codes, g.group, params), h(x))
        return tuple(map(torch.sin, products))

    inputs = [x, torch.tensor([3], dtype=torch.uint8), torch.tensor([2.0]).bfloat16()]
    gm = net(run, [Int4(), make(), Int4()], inputs)
    assert int4_products(gm, *inputs) == 2
    assert reason in left_out(gm)


def test_int4_scales_that_are_not_dense_stay() -> None:
    """The kernel misreads them, and the result must stay what it is."""
    x, parts = torch.randn(4, 128).bfloat16(), [Int4(), Int4()]
    for part in parts:
        part.params = nn.Buffer(part.params.transpose(0, 1).contiguous().transpose(0, 1))
    assert int4_products(net(each, parts, [x]), x) == 2
