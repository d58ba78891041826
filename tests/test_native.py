"""Our own operators: the numbers of torch's onednn ones, and what they keep is never stale."""

from __future__ import annotations

import copy
import io
import threading
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from builders import FULL, IN, Conv, Linear, agrees, fq, full_range, highest_exact_code, image, int8_first, net
from test_kernels import ARGUMENTS, FUNCTIONS
from torch._inductor.utils import run_and_get_code

import qegraph
from qegraph import native, zoo
from qegraph.coverage.contract import disagreement
from qegraph.kernels import Kernels, accepted
from qegraph.machine import FOLDER
from qegraph.tuning import Store

SCALE, OUT_SCALE, OTHER_SCALE = 0.02, 0.03, 0.04
ROWS = [row for row in accepted("native") if "float16" not in row]


@pytest.fixture(autouse=True)
def operators() -> None:
    """Not at import: they would be built in the user's own cache."""
    if reason := native.unavailable():
        pytest.skip(reason)


def call(x: torch.Tensor, w: torch.Tensor, zero: int = 0, other: torch.Tensor | None = None, **given: Any) -> Any:
    """An operator on random scales and biases, which depend on the weight's shape alone."""
    generator = torch.Generator().manual_seed(1)
    n, rank = w.shape[0], w.dim() - 2
    w_scale, bias = torch.rand(n, generator=generator) * 0.01 + 0.001, torch.randn(n, generator=generator)
    pad = given.get("pad", 1)
    windows: list[Any] = [[given.get("stride", 1)] * rank, [pad] * rank, [1] * rank, given.get("groups", 1)]
    codes = given.get("out", torch.uint8) in (torch.uint8, torch.int8)
    other_params = (OTHER_SCALE, 90) if other is not None and not other.is_floating_point() else (1.0, 0)
    tail = [OUT_SCALE, given.get("out_zero", 61)] if codes else [1.0, 0]
    f = given.get("f", "identity")
    packet = torch.ops.qegraph.qconv if rank else torch.ops.qegraph.qlinear
    return packet.default(
        *(x, SCALE, zero, w, given.get("w_scale", w_scale), given.get("bias", bias), other, *other_params),
        *(windows if rank else []),
        *(*tail, given.get("out", torch.uint8), f, ARGUMENTS.get(f, [])),
    )


def wanted(x: torch.Tensor, w: torch.Tensor, zero: int = 0, other: torch.Tensor | None = None, **given: Any) -> Any:
    """The same in float64."""
    generator = torch.Generator().manual_seed(1)
    n, rank = w.shape[0], w.dim() - 2
    w_scale, bias = torch.rand(n, generator=generator) * 0.01 + 0.001, torch.randn(n, generator=generator)
    real = (x.double() - zero) * SCALE
    weight = w.double() * w_scale.double().reshape(-1, *[1] * (w.dim() - 1))
    if rank:
        function = (torch.conv1d, torch.conv2d, torch.conv3d)[rank - 1]
        y = function(
            real, weight, bias.double(), given.get("stride", 1), given.get("pad", 1), 1, given.get("groups", 1)
        )
    else:
        y = real @ weight.T + bias.double()
    if other is not None:
        y = y + (other.double() if other.is_floating_point() else (other.double() - 90) * OTHER_SCALE)
    y = FUNCTIONS[given.get("f", "identity")](y)
    out = given.get("out", torch.uint8)
    if out in (torch.uint8, torch.int8):
        info = torch.iinfo(out)
        return ((y / OUT_SCALE).round() + given.get("out_zero", 61)).clamp(info.min, info.max).to(out)
    return y.to(out)


def codes(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    low, high = (0, highest_exact_code()) if dtype == torch.uint8 else (-128, 127)
    return torch.randint(low, high + 1, shape, dtype=dtype)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    rel = 1e-5 if found.dtype != torch.bfloat16 else torch.finfo(torch.bfloat16).eps
    problem = disagreement(expected, found, rel)
    assert problem is None, problem


def sizes(kind: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = 0 if kind == "linear" else int(kind[4])
    return (2, 8, *[5] * rank), (6, 8, *[3] * rank)


@pytest.mark.parametrize("zero", [0, 117])
@pytest.mark.parametrize(("kind", "other", "out", "f"), ROWS)
def test_row_of_the_kernel_table(kind: str, other: str, out: str, f: str, zero: int) -> None:
    torch.manual_seed(0)
    x_shape, w_shape = sizes(kind)
    x, w = codes(*x_shape), codes(*w_shape, dtype=torch.int8)
    stored = torch.uint8 if out == "codes" else getattr(torch, out)
    plain = wanted(x, w, zero, out=torch.float32)
    residual = None
    if other != "absent":
        residual = codes(*plain.shape) if other == "codes" else torch.randn(plain.shape).to(getattr(torch, other))
    before = residual if residual is None else residual.clone()
    close(call(x, w, zero, residual, out=stored, f=f), wanted(x, w, zero, residual, out=stored, f=f))
    if residual is not None and before is not None:
        assert torch.equal(residual, before), "the residual was written"


@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 3, 16), (0, 16), (1, 1, 1, 16)])
def test_linear_of_any_rank(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, w = codes(*shape), codes(24, 16, dtype=torch.int8)
    close(call(x, w, 3), wanted(x, w, 3))


@pytest.mark.parametrize("other", [(24,), (1, 24), (3, 1), (2, 3, 24), (1, 1, 1)])
def test_linear_adds_what_broadcasts(other: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, w, residual = codes(2, 3, 16), codes(24, 16, dtype=torch.int8), torch.randn(other)
    close(call(x, w, 3, residual, out=torch.float32), wanted(x, w, 3, residual, out=torch.float32))


@full_range
def test_int8_activations_and_results() -> None:
    torch.manual_seed(0)
    x, w = codes(5, 16, dtype=torch.int8), codes(24, 16, dtype=torch.int8)
    close(call(x, w, -7, out=torch.int8, out_zero=-3), wanted(x, w, -7, out=torch.int8, out_zero=-3))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_layouts_and_groups_of_a_convolution(groups: int) -> None:
    torch.manual_seed(0)
    x, w = codes(2, 8, 9, 7), codes(16, 8 // groups, 3, 3, dtype=torch.int8)
    expected = wanted(x, w, 5, groups=groups, stride=2)
    for each in (x, x.contiguous(memory_format=torch.channels_last), codes(2, 8, 9, 14)[..., ::2].copy_(x)):
        found = call(each, w, 5, groups=groups, stride=2)
        assert found.is_contiguous(memory_format=torch.channels_last)
        close(found, expected)


def test_ties_and_saturation() -> None:
    """The zero point is added before rounding, and what doesn't fit is clamped."""
    x, w = torch.arange(256, dtype=torch.uint8).reshape(256, 1), torch.ones(1, 1, dtype=torch.int8)
    one = {"w_scale": torch.ones(1), "bias": torch.zeros(1)}
    found = torch.ops.qegraph.qlinear.default(
        *(x, 0.5, 128, w, *one.values(), None, 1.0, 0, 1.0, 2, torch.uint8, "identity", [])
    )
    exact = ((x.double() - 128) * 0.5 + 2).round().clamp(0, 255)
    assert torch.equal(found.double(), exact)


def test_a_weight_written_to_is_packed_again() -> None:
    torch.manual_seed(0)
    x, w = codes(3, 16), codes(24, 16, dtype=torch.int8)
    call(x, w)
    w.neg_()
    close(call(x, w), wanted(x, w))


def test_another_weight_in_the_memory_of_one_that_is_gone() -> None:
    torch.manual_seed(0)
    x = codes(3, 16)
    for _ in range(50):
        w = codes(24, 16, dtype=torch.int8)
        close(call(x, w), wanted(x, w))
        del w


def test_parts_of_one_memory_are_different_weights() -> None:
    torch.manual_seed(0)
    x, whole = codes(3, 16), codes(48, 16, dtype=torch.int8)
    for w in (whole, whole[:24], whole[24:], whole[:24].reshape(24, 16)):
        close(call(x, w), wanted(x, w))


def test_more_shapes_than_are_remembered() -> None:
    torch.manual_seed(0)
    w = codes(24, 16, dtype=torch.int8)
    for n in [*range(1, 40), *range(39, 0, -1)]:
        x = codes(n, 16)
        close(call(x, w), wanted(x, w))


def test_the_thread_count_may_change() -> None:
    torch.manual_seed(0)
    x, w = codes(2, 8, 9, 7), codes(16, 8, 3, 3, dtype=torch.int8)
    first = call(x, w)
    try:
        torch.set_num_threads(2)
        assert torch.equal(call(x, w), first)
    finally:
        torch.set_num_threads(1)


def test_threads_call_at_once() -> None:
    torch.manual_seed(0)
    x, w = codes(2, 8, 9, 7), codes(16, 8, 3, 3, dtype=torch.int8)
    expected, wrong = call(x, w), []

    def work() -> None:
        for _ in range(200):
            if not torch.equal(call(x, w), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_scale": torch.ones(23)}, "1 or 24 float32"),
        ({"w_scale": torch.ones(24, dtype=torch.float64)}, "1 or 24 float32"),
        ({"bias": torch.ones(23)}, "the bias must be 24"),
        ({"out": torch.int32}, "no int8 kernel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(codes(3, 16), codes(24, 16, dtype=torch.int8), **change)


def test_shapes_that_do_not_fit_are_refused() -> None:
    w = codes(24, 16, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="doesn't fit a weight"):
        call(codes(3, 15), w)
    with pytest.raises(RuntimeError, match="must be uint8 or int8"):
        call(torch.randn(3, 16), w)
    with pytest.raises(RuntimeError, match="must be int8"):
        call(codes(3, 16), codes(24, 16))


# -- in optimised graphs -----------------------------------------------------------------------------------------------


def residual_block() -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    x = image()
    parts = [Conv(), Conv(), Linear(8, 5)]

    def body(a: Any, b: Any, c: Any, x: Any) -> Any:
        y = fq(torch.relu(a(fq(x, IN))), IN)
        z = fq(torch.relu(b(y) + y), IN)
        return c(fq(z.mean((2, 3)), IN)), y

    return net(body, parts, [x]), [x]


def test_an_optimised_graph_and_its_copies(tmp_path: Path) -> None:
    gm, inputs = residual_block()
    fast = qegraph.optimize(gm, kernels="native", require="int8")
    calls = [str(node.target) for node in fast.graph.nodes if node.op == "call_function"]
    assert [name for name in calls if name.startswith("onednn")] == []
    assert [name for name in calls if name.startswith("qegraph.q")][:2] == ["qegraph.qconv.default"] * 2
    assert not [node for node in fast.graph.nodes if "scratch" in str(node.target)], "the residual is only read"
    assert "2 conv: 2 int8 (2 with fused post-op), 1 linear: 1 int8" in str(qegraph.explain(fast))
    agrees(gm, fast, inputs)
    expected = fast(*inputs)
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    qegraph.save(fast, tmp_path / "fast")
    for other in (copy.deepcopy(fast), torch.load(file, weights_only=False), qegraph.load(tmp_path / "fast")):
        for a, b in zip(other(*inputs), expected, strict=True):
            assert torch.equal(a, b)
    program = torch.export.export(fast, tuple(inputs), strict=False)
    for a, b in zip(program.module()(*inputs), expected, strict=True):
        assert torch.equal(a, b)


def behind_a_residual(f: Any) -> tuple[torch.fx.GraphModule, torch.Tensor]:
    torch.manual_seed(0)
    x = image()

    def body(a: Any, b: Any, x: torch.Tensor) -> torch.Tensor:
        y = fq(torch.relu(a(fq(x, IN))), IN)
        return fq(f(b(y) + y), FULL)

    return net(body, [Conv(), Conv()], [x]), x


@pytest.mark.parametrize("f", [F.relu6, F.silu, F.gelu, torch.tanh, lambda y: F.leaky_relu(y, 0.1)])
def test_any_post_op_behind_a_residual_is_the_kernels(f: Any) -> None:
    gm, x = behind_a_residual(f)
    fast = qegraph.optimize(gm, kernels="native", require="int8")
    calls = [str(node.target) for node in fast.graph.nodes if node.op == "call_function"]
    assert calls[-3:-1] == ["qegraph.qconv.default"] * 2 and "dequantize" in calls[-1]
    agrees(gm, fast, [x])
    stock = qegraph.optimize(gm, require="int8")
    behind = [node.target for node in stock.graph.nodes if node.op == "call_function"]
    assert len(behind) > len(calls), "torch's operators add only a relu to a residual"


def test_measured_costs_of_native_kernels_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    store = Store.here(torch.get_num_threads())
    gm, x = behind_a_residual(torch.tanh)
    qegraph.optimize(gm, cost="measured")
    before = store.read()
    fast = qegraph.optimize(gm, cost="measured", kernels="native")
    agrees(gm, fast, [x])
    after = store.read()
    assert before.times.items() <= after.times.items() and len(after.winners) == 2
    assert {key.startswith("native QGemm") for key in after.times.keys() - before.times.keys()} == {True, False}
    assert all(key.startswith("native ") for key in after.times.keys() - before.times.keys())


def test_questions_are_about_the_kernels_asked_for() -> None:
    gm, _ = behind_a_residual(torch.tanh)
    answers = {kernels: qegraph.why_not(gm, "tanh", cost=int8_first, kernels=kernels) for kernels in get_args(Kernels)}
    assert {kernels: each.verdict for kernels, each in answers.items()} == {"native": "in use", "onednn": "guard fails"}
    session = qegraph.explore(gm, cost=int8_first, kernels="native")
    assert session.best.module.code == qegraph.optimize(gm, cost=int8_first, kernels="native").code
    bare = session.extract(without=["requantize"])
    assert "qegraph.qconv" in bare.module.code and bare.search.kernels == "native"


def test_a_saved_graph_where_there_are_no_native_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gm, _ = residual_block()
    qegraph.save(qegraph.optimize(gm, kernels="native", require="int8"), tmp_path / "fast")
    monkeypatch.setattr(native, "unavailable", lambda: "no compiler")
    with pytest.raises(qegraph.LoadError, match="kernels of our own, which can't be had here: no compiler"):
        qegraph.load(tmp_path / "fast")


@pytest.mark.parametrize(
    "options", [{}, {"freezing": True}, pytest.param({"cpp_wrapper": True}, marks=pytest.mark.zoo)]
)
def test_compiled(options: dict[str, Any]) -> None:
    gm, inputs = residual_block()
    fast = qegraph.optimize(gm, kernels="native", require="int8", target="compiled")
    compiled: Any = torch.compile(fast, options=options)
    with torch.no_grad():
        agrees(gm, compiled, inputs)


def pooled() -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """With every operator that compiled code calls as a C function."""
    torch.manual_seed(0)
    x = image()

    def body(a: Any, b: Any, c: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(fq(torch.relu(a(fq(x, IN))), IN), 3, 2, 1)
        z = fq(torch.relu(b(y) + a(fq(x, IN))[:, :, ::2, ::2]), IN)
        return c(fq(z.mean((2, 3)), IN))

    return net(body, [Conv(), Conv(), Linear(8, 5)], [x]), [x]


def test_compiled_code_calls_the_kernels_directly() -> None:
    gm, inputs = pooled()
    options: dict[str, Any] = {"kernels": "native", "cost": int8_first}

    def compiled() -> tuple[torch.Tensor, str]:
        torch.compiler.reset()
        with torch.no_grad():
            result, code = run_and_get_code(torch.compile(gm, backend=qegraph.backend, options=options), *inputs)
        return result, code[0]

    fast, code = compiled()
    for name in ("qconv", "qlinear", "max_pool2d"):
        assert f"aoti_torch_cpu_{name}(" in code
    assert "findSchemaOrThrow" not in code, "nothing through the dispatcher"
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="C.. one there is a KeyError: 'gone'"):
        patch.setattr(native, "wrapper_settings", lambda: {}["gone"])
        slow, code = compiled()
    assert torch.equal(fast, slow) and "torch.ops.qegraph.qconv" in code


def test_a_dynamic_batch_and_dynamic_scales() -> None:
    torch.manual_seed(0)
    x, w = codes(3, 16), codes(24, 16, dtype=torch.int8)
    scale, zero = torch.tensor(SCALE), torch.tensor(5, dtype=torch.int32)
    tail = (w, torch.ones(1), None, None, 1.0, 0, 1.0, 0, torch.float32, "relu", [])
    dynamic = torch.ops.qegraph.qlinear_dynamic(x, scale, zero, *tail)
    assert torch.equal(dynamic, torch.ops.qegraph.qlinear.default(x, float(scale), 5, *tail))


@pytest.mark.zoo
def test_a_zoo_model_agrees() -> None:
    model, inputs = zoo.load("mobilenet_v3_large", "small")
    quantized = zoo.quantize(model, inputs)
    fast = qegraph.optimize(quantized, kernels="native", require="int8")
    stock = qegraph.optimize(quantized, require="int8")
    with torch.no_grad():
        oracle = quantized(*inputs)
        off, usual = (fast(*inputs) - oracle).abs().mean(), (stock(*inputs) - oracle).abs().mean()
    assert off <= 2 * usual + 1e-3 * oracle.abs().max()
