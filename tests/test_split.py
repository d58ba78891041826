"""One linear whose outputs are cut into parts, as in a fused query, key and value: each part as its own kernel."""

# pyright: reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import builders as b
import pytest
import torch
import torch.nn.functional as F
from builders import IN, OUT, QP, checked, decomposed, fq, has, net, q
from torch import Tensor, nn

import qegraph
from qegraph.capture import capture
from qegraph.encode import encode
from qegraph.engine import Engine
from qegraph.load_rules import by_name, select
from qegraph.ready import fresh
from qegraph.saturate import Budget, saturate
from qegraph.validate import validate

MAKES = pytest.mark.parametrize("make", [net, decomposed], ids=["exported", "decomposed"])
OWN = (OUT, QP(0.05, 3), QP(0.011, 200))
K, N = 64, 512
LINEAR = "qlinear_pointwise.default"


def stored(parts: Any, outs: tuple[QP, ...] = OWN) -> tuple[Tensor, ...]:
    return tuple(q(part, out) for part, out in zip(parts, outs, strict=True))


def fused(**options: Any) -> nn.Module:
    return b.Linear(K, 3 * N, **options)


def rows(*shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 128)), K)


@MAKES
@pytest.mark.parametrize("shape", [(512,), (4, 128)], ids=["rank 2", "rank 3"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("scale", [None, 0.003], ids=["per-channel", "per-tensor"])
def test_each_part_is_quantized_by_its_own_kernel(
    make: b.Make, shape: tuple[int, ...], bias: bool, scale: float | None
) -> None:
    x = rows(*shape)
    gm = make(lambda m, x: stored(m(fq(x)).chunk(3, -1)), [fused(bias=bias, scale=scale)], [x])
    fast = checked(gm, [x])
    assert b.kinds(fast) == [LINEAR] * 3 and b.borders(fast) == (1, 0)
    assert not any(has(fast, name) for name in ("chunk", "split", "slice", "getitem"))
    assert all(difference.within_contract for difference in validate(gm, fast, [x]))


CUTS: dict[str, Callable[[Tensor], Any]] = {
    "split": lambda y: y.split(N, -1),
    "sizes": lambda y: y.split([2 * N, N // 2, N // 2], 2),
    "slices": lambda y: (y[..., :N], y[..., N : 2 * N], y[..., -N:]),
    "slices that overlap": lambda y: (y[..., : 2 * N], y[..., N:], y[..., 100:-100]),
    "narrow": lambda y: [y.narrow(-1, N * i, N) for i in range(3)],
    "tensor_split": lambda y: y.tensor_split((N, N + 100), -1),
    "relu before": lambda y: F.relu(y).chunk(3, -1),
    "heads": lambda y: [part.view(4, 128, 8, N // 8).transpose(1, 2) for part in y.chunk(3, -1)],
    "half before": lambda y: y.to(torch.bfloat16).chunk(3, -1),
}


@MAKES
@pytest.mark.parametrize("name", CUTS)
def test_spellings(make: b.Make, name: str) -> None:
    x = rows()
    gm = make(lambda m, x: stored(CUTS[name](m(fq(x)))), [fused()], [x])
    fast = qegraph.optimize(gm) if "half" in name else checked(gm, [x])
    assert b.kinds(fast) == [LINEAR] * 3 and b.borders(fast) == (1, 0), fast.code


@pytest.mark.parametrize("options", [{"axis": 1}, {"scale": 0.003}], ids=["per-channel", "per-tensor"])
def test_weight_stored_inputs_first(options: dict[str, Any]) -> None:
    """GPT-2's own spelling: a matrix (inputs, 3 outputs) that is multiplied from the right."""
    x, bias = rows(), nn.ParameterList([torch.randn(3 * N)]).requires_grad_(False)

    def run(w: Any, c: Any, x: Tensor) -> Any:
        y = torch.addmm(c[0], fq(x).view(-1, K), w()).view(4, 128, 3 * N)
        return stored(part.view(4, 128, 8, -1).permute(0, 2, 1, 3) for part in y.split(N, 2))

    fast = checked(net(run, [b.Weight(K, 3 * N, **options), bias], [x]), [x])
    assert b.kinds(fast) == [LINEAR] * 3 and b.borders(fast) == (1, 0)


def test_a_post_op_of_one_part() -> None:
    x = rows()

    def run(m: Any, x: Tensor) -> Any:
        gate, up = m(fq(x)).chunk(2, -1)
        return q(F.silu(gate), OUT), q(up, OWN[1])

    fast = checked(net(run, [b.Linear(K, 2 * N)], [x]), [x])
    assert sorted(b.post_ops(fast)) == ["", "swish"] and b.borders(fast) == (1, 0)


def test_parts_of_parts() -> None:
    x = rows()

    def run(m: Any, x: Tensor) -> Any:
        first, second = m(fq(x)).chunk(2, -1)
        return stored((*second.chunk(2, -1), first))

    fast = checked(net(run, [b.Linear(K, 4 * N)], [x]), [x])
    assert b.kinds(fast) == [LINEAR] * 3 and b.borders(fast) == (1, 0)


def test_a_batch_of_any_size() -> None:
    x = rows(64)
    module = b.Net(lambda m, x: stored(m(fq(x)).chunk(3, -1)), [fused()])
    gm = b.build(module, [x], (({0: torch.export.Dim("rows", max=1024)},),), strict=False)
    fast = qegraph.optimize(gm)
    b.agrees(gm, fast, [x])
    b.agrees(gm, fast, [rows(5)])


WHOLE: dict[str, Callable[[Any], Any]] = {
    "float": lambda y: y.chunk(3, -1),
    "attention": lambda y: F.scaled_dot_product_attention(
        *(p.view(4, 128, 8, -1).transpose(1, 2) for p in y.chunk(3, -1))
    ),
    "equal": lambda y: stored(y.chunk(3, -1), (OUT,) * 3),
    "equal, relu": lambda y: stored((F.relu(part) for part in y.chunk(3, -1)), (OUT,) * 3),
}


@MAKES
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_stored_alike_stays_one_kernel(make: b.Make, name: str) -> None:
    x = rows()
    fast = checked(make(lambda m, x: WHOLE[name](m(fq(x))), [fused()], [x]), [x], rel=1e-4)
    assert b.kinds(fast) == [LINEAR]


def test_small_products_stay_one_kernel() -> None:
    """Three calls would cost more than three passes over a few numbers."""
    x = torch.randn(2, 24)
    fast = checked(net(lambda m, x: stored(m(fq(x)).chunk(3, -1)), [b.Linear(24, 48)], [x]), [x])
    assert b.kinds(fast) == [LINEAR] and b.borders(fast) == (4, 0)


NOT_CUT: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "rows": lambda m, x, c: stored(m(fq(x)).split([1, 1, 2], 0)),
    "every other one": lambda m, x, c: stored(m(fq(x))[..., i::3] for i in range(3)),
    "bias is an input": lambda m, x, c: stored(F.linear(fq(x), m.weight(), c).chunk(3, -1)),
}


@pytest.mark.parametrize("name", NOT_CUT)
def test_what_is_no_linear_of_its_own(name: str) -> None:
    x, bias = rows(), torch.randn(3 * N)
    gm = net(NOT_CUT[name], [fused()], [x, bias])
    checked(gm, [x, bias])
    assert len(saturated(gm).tables()["Cut"].rows) == 0


# -- the size of the e-graph -------------------------------------------------------------------------------------------


def saturated(gm: Any, *without: str) -> Engine:
    left_out = {by_name(name).name for name in without}
    engine = fresh([rule for rule in select(None) if rule.name not in left_out])
    encode(capture(gm), engine)
    done = saturate(engine, Budget())
    assert not done.limit and done.rounds <= 10
    return engine


def products(engine: Engine) -> int:
    return len(engine.tables()["QGemm"].rows)


@pytest.mark.parametrize("own", [False, True], ids=["float", "own codes"])
def test_growth_is_linear(own: bool) -> None:
    """k parts make at most k products, and with their own codes 3 k: cut, and cut and whole with those codes."""

    def run(m: Any, x: Tensor) -> Any:
        parts = m(fq(x)).chunk(count, -1)
        return tuple(q(part, QP(0.01 + 0.001 * i, i)) for i, part in enumerate(parts)) if own else parts

    for count in (4, 8, 32):
        engine = saturated(net(run, [b.Linear(24, 8 * count)], [torch.randn(2, 24)]))
        assert products(engine) == 1 + count * (3 if own else 1)
        assert len(engine.tables()["Joined"].rows) == 0, "what was cut was joined again"


def test_what_was_joined_is_not_cut_again() -> None:
    """Linears that run as one make the same e-graph with and without the rule that cuts."""

    def run(*args: Any) -> Any:
        return [q(part(fq(args[-1])), out) for part, out in zip(args[:-1], OWN, strict=True)]

    gm = net(run, [b.Linear(24, 16) for _ in range(3)], [torch.randn(2, 24)])
    tables, others = saturated(gm).tables(), saturated(gm, "part-as-linear").tables()
    assert len(tables["Joined"].rows) > 0
    for word in ("QGemm", "Moved", "Part", "Joined", "Cut", "Quantize"):
        assert len(tables[word].rows) == len(others[word].rows), word


def test_a_fused_linear_beside_others() -> None:
    """Its neighbours run as one with the whole of it; its parts, which stand between them, are passed over."""
    parts = [b.Linear(24, 16), b.Linear(24, 48), b.Linear(24, 16)]
    x = torch.randn(2, 24)

    def run(f: Any, g: Any, h: Any, x: Tensor) -> Any:
        read = fq(x, IN)
        first, several, last = f(read), g(read).chunk(3, -1), h(read)
        return first, *several, last

    gm = net(run, parts, [x])
    assert b.kinds(checked(gm, [x])) == [LINEAR]
    engine = saturated(gm)
    assert products(engine) == products(saturated(gm, "part-as-linear")) + 3
