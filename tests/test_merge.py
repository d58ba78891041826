"""Linears on the same codes as one."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from typing import Any

import builders as b
import pytest
import torch
from builders import IN, OUT, QP, checked, decomposed, fq, has, net, q
from torch import Tensor, nn

import qegraph
from qegraph.capture import capture
from qegraph.encode import encode
from qegraph.load_rules import select
from qegraph.ready import fresh
from qegraph.saturate import Budget, saturate

MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])


def heads(count: int, *outs: QP | None, k: int = 24, n: int = 16, **options: Any) -> tuple[list[nn.Module], Any]:
    """`count` linears and a function that applies them to one activation and stores each as its `out`."""

    def run(*args: Any) -> tuple[Tensor, ...]:
        *parts, x = args
        read = fq(x)
        results = [part(read) for part in parts]
        pairs = zip(results, outs or (None,) * count, strict=True)
        return tuple(y if out is None else q(y, out) for y, out in pairs)

    return [b.Linear(k, n + 2 * i, **options) for i in range(count)], run


@MAKES
@pytest.mark.parametrize("count", [2, 3, 4])
def test_float_outputs(make: b.Make, count: int) -> None:
    parts, run = heads(count)
    x = torch.randn(4, 24)
    fast = checked(make(run, parts, [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] and has(fast, "slice") >= count
    assert all(y.is_contiguous() for y in fast(x))


@MAKES
def test_three_dims_and_equal_outputs(make: b.Make) -> None:
    parts, run = heads(3, b.FULL_OUT, b.FULL_OUT, b.FULL_OUT)
    x = torch.randn(2, 5, 24)
    fast = checked(make(run, parts, [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] and b.borders(fast) == (1, 0)


def test_each_output_keeps_its_scale() -> None:
    """Different output parameters: small products run as one with a float output, each part quantized by itself."""
    parts, run = heads(3, OUT, QP(0.05, 3), QP(0.011, 200))
    x = torch.randn(2, 24)
    fast = checked(net(run, parts, [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] and b.borders(fast) == (4, 0)


def test_large_products_with_different_outputs_stay_apart() -> None:
    parts, run = heads(3, OUT, QP(0.05, 3), QP(0.011, 200), k=64, n=512)
    x = torch.randn(512, 64)
    fast = checked(net(run, parts, [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] * 3 and b.borders(fast) == (1, 0)


@pytest.mark.parametrize("options", [{"bias": False}, {"scale": 0.003}, {"scale": 0.003, "bias": False}], ids=str)
def test_biases_and_scales_of_either_form(options: dict[str, Any]) -> None:
    plain, run = heads(3)
    others, _ = heads(3, **options)
    x = torch.randn(4, 24)
    for parts in ([others[0], plain[1], others[2]], [plain[0], others[1], plain[2]], others):
        fast = checked(net(run, parts, [x]), [x])
        assert b.kinds(fast) == ["qlinear_pointwise.default"]


def test_equal_post_ops_run_as_one() -> None:
    parts, _ = heads(2)
    x = torch.randn(4, 24)
    fast = checked(
        net(lambda f, g, x: (torch.sin(torch.relu(f(fq(x)))), torch.sin(torch.relu(g(fq(x))))), parts, [x]), [x]
    )
    assert b.post_ops(fast) == ["relu"]


@pytest.mark.parametrize("case", ["activations", "parameters", "bias is an input"])
def test_what_does_not_run_as_one(case: str) -> None:
    parts, _ = heads(2)
    x, y, bias = torch.randn(4, 24), torch.randn(4, 24), torch.randn(16)
    runs: dict[str, Any] = {
        "activations": lambda f, g, x, y, c: (f(fq(x)), g(fq(y))),
        "parameters": lambda f, g, x, y, c: (f(fq(x)), g(fq(x, OUT))),
        "bias is an input": lambda f, g, x, y, c: (torch.nn.functional.linear(fq(x), f.weight(), c), g(fq(x))),
    }
    fast = checked(net(runs[case], parts, [x, y, bias]), [x, y, bias])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] * 2


def test_parts_feed_other_kernels() -> None:
    """A part is a view: a residual sum must not write into its siblings."""
    parts, _ = heads(2)
    last = b.Linear(16, 18)
    x = torch.randn(4, 24)

    def run(f: Any, g: Any, h: Any, x: Tensor) -> Any:
        left, right = f(fq(x)), g(fq(x))
        return h(fq(left)) + right, left, right

    checked(net(run, [*parts, last], [x]), [x])


@pytest.mark.parametrize("outs", [(), (OUT,), (OUT, IN)], ids=["float", "equal", "two kinds"])
def test_growth_is_linear(outs: tuple[QP, ...]) -> None:
    """k linears make at most 4 k products for each post-op and output, however they are quantized afterwards.

    The clamp to a narrow range, which `OUT` has without VNNI, is one more post-op.
    """
    for count in (4, 8, 32):
        parts, run = heads(count, *(outs[i % len(outs)] for i in range(count) if outs))
        engine = fresh(select(None))
        encode(capture(net(run, parts, [torch.randn(2, 24)])), engine)
        done = saturate(engine, Budget())
        assert not done.limit and done.rounds <= 8
        families = 1 + len(outs) + (len(outs) > 0 and not b.READS_INT8)
        assert len(engine.tables()["QGemm"].rows) <= families * 4 * count


def test_many_linears_are_chosen_exactly() -> None:
    parts, run = heads(16)
    x = torch.randn(4, 24)
    fast = checked(net(run, parts, [x]), [x])
    assert b.kinds(fast) == ["qlinear_pointwise.default"] * 4
    assert qegraph.explain(fast).gap == 0


def test_each_part_knows_its_own_linear() -> None:
    """One rule states two equalities: the product comes of both linears, a part of one."""
    parts, run = heads(2)
    gm = net(lambda *args: tuple(map(torch.sin, run(*args))), parts, [torch.randn(4, 24)])
    linears = [node.name for node in gm.graph.nodes if "linear" in str(node.target)]
    made = [
        node.meta["qegraph"]
        for node in qegraph.optimize(gm, target="compiled", require="int8").graph.nodes
        if "qegraph" in node.meta
    ]
    product = next(each for each in made if each["op"] == "QGemm")
    sliced = [each for each in made if each["op"] == "Part"]
    assert "two-linears-as-one" in product["rules"] and set(linears) <= set(product["from"])
    assert [each["rules"] for each in sliced] == [("two-linears-as-one",)] * 2
    assert [each["equals"] for each in sliced] == linears
    assert [set(linears) & set(each["from"]) for each in sliced] == [{name} for name in linears]
