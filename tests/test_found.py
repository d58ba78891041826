"""What the fuzzer has found, each with the smallest graph that showed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import (
    OUT,
    OUT_S8,
    QP,
    Build,
    Conv,
    Weight,
    checked,
    fq,
    graph_of,
    has,
    int8_first,
    kinds,
    net,
    q,
    stays_float,
    usual,
)
from torch import Tensor, fx

import qegraph
from qegraph.coverage.parts import Net, qd
from qegraph.fuzz.check import optimized

aten: Any = torch.ops.aten


def test_one_dim_convolutions_have_their_sizes_when_compiled() -> None:
    """torch's fake kernel takes the window of a packed 1-d weight for 1."""
    module = net(lambda conv, x: fq(conv(fq(x)), OUT).flatten(1), [Conv(1)], [torch.randn(2, 8, 7)])
    x = torch.randn(2, 8, 7)
    fast = qegraph.optimize(module, cost=int8_first)
    assert kinds(fast) == ["qconv_pointwise.default"]
    compiled = torch.compile(fast, backend="aot_eager")
    assert torch.equal(compiled(x), fast(x))


def test_optimized_graphs_are_read_again_without_shapes() -> None:
    """Packed weights are real tensors between fake ones, and some values are in no source."""
    x = torch.randn(2, 8, 7, 7)
    exported = net(lambda conv, x: fq(conv(fq(x)), QP(0.037, 91, 3, 200)), [Conv(2)], [x])
    for node in exported.graph.nodes:
        node.meta.pop("val", None)
    fast = qegraph.optimize(exported, (x,), cost=int8_first)
    assert torch.equal(qegraph.optimize(fast, (x,))(x), fast(x))


READS_BY_PLACE: dict[str, Build] = {
    "as_strided": lambda graph, x: graph.call_function(aten.as_strided.default, (x, [16, 4], [1, 16])),
    "bits": lambda graph, x: graph.call_function(aten.view.dtype, (x, torch.int16)),
    "int8pack": lambda graph, x: graph.call_function(
        aten._weight_int8pack_mm.default, (x, graph.get_attr("w"), graph.get_attr("s"))
    ),
}


@pytest.mark.parametrize("name", READS_BY_PLACE)
@pytest.mark.parametrize("dense", [aten.contiguous.default, aten.clone.default])
def test_what_reads_by_place_has_dense_operands(name: str, dense: Any) -> None:
    """The e-graph knows nothing of strides, so it took the call away that made the operand dense."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        options: Any = {"memory_format": torch.contiguous_format} if dense is aten.clone.default else {}
        moved = graph.call_function(dense, (graph.call_function(aten.permute.default, (x, [1, 0])),), options)
        return READS_BY_PLACE[name](graph, moved)

    module = graph_of(build, {"w": torch.randint(-9, 9, (8, 4), dtype=torch.int8), "s": torch.rand(8)})
    x = torch.randn(4, 16)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))
    if name == "int8pack":  # the others have numbers for sizes
        columns = ({1: torch.export.Dim("columns")},)
        exported = torch.export.export(module, (x,), dynamic_shapes=columns, strict=False).module()
        assert torch.equal(qegraph.optimize(exported, (x,))(x), module(x))


def test_a_kernel_is_called_again_on_a_column_that_was_copied_for_it() -> None:
    """A column is contiguous for torch whatever its stride, which the kernel asks for all the same."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        copied = graph.call_function(aten.clone.default, (x,), {"memory_format": torch.contiguous_format})
        return READS_BY_PLACE["int8pack"](graph, copied)

    module = graph_of(build, {"w": torch.randint(-9, 9, (8, 1), dtype=torch.int8), "s": torch.rand(8)})
    x = torch.randn(1, 3).t()
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_kernels_that_read_by_place_are_called_each_as_it_was() -> None:
    """Two calls that are equal but for their operands are one call of the e-graph: it was the first one's, twice."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        rows = graph.call_function(aten.permute.default, (x, [1, 0]))
        copied = graph.call_function(aten.contiguous.default, (rows,))
        first, second = (graph.call_function(aten.as_strided.default, (each, [8], [1])) for each in (x, copied))
        return graph.call_function(aten.cat.default, ([first, second],))

    module, x = graph_of(build), torch.randn(4, 16)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_sizes_that_no_input_has_are_computed() -> None:
    class Longer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Buffer(torch.randn(8))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            longer = torch.nn.functional.pad(x, (0, 0, 1, 2))
            return longer + self.bias.expand(longer.shape[0], 8) * 2, self.bias.expand(3, 2 * x.shape[0], 8)

    x = torch.randn(4, 8)
    exported = torch.export.export(Longer(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fast = qegraph.optimize(exported, (x,))
    twice = qegraph.optimize(fx.GraphModule(fast, fast.graph), (x,))
    for x in (torch.randn(2, 8), torch.randn(7, 8)):
        for found in (fast(x), twice(x)):
            assert all(map(torch.equal, found, exported(x)))


def test_what_is_read_twice_is_no_chain_of_concatenations() -> None:
    """Its cost said so where it could have been one, so the cheapest form of the cheapest form was another."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        params = (0.003, 101, 0, 255, torch.uint8)
        codes = graph.call_function(qd.quantize_per_tensor.default, (x, *params))
        read = graph.call_function(qd.dequantize_per_tensor.default, (codes, *params))
        row = graph.call_function(aten.cat.default, ([read, read, read],))
        return graph.call_function(aten.cat.default, ([row, row, x],))

    x = torch.randn(2)
    optimized(graph_of(build), (x,), None, "twice")


def test_of_forms_that_cost_the_same_the_given_one_stays() -> None:
    """relu of floats or clamp of their codes: one was chosen of the graph, the other of the result."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        params = (0.0133, -36, -128, 127, torch.int8)
        for op in (aten.relu.default, None):
            codes = graph.call_function(qd.quantize_per_tensor.default, (x, *params))
            x = graph.call_function(qd.dequantize_per_tensor.default, (codes, *params))
            x = graph.call_function(op, (x,)) if op else x
        return x

    optimized(graph_of(build), (torch.randn(1),), None, "twice")


def test_operands_of_two_dtypes_are_the_operators_own_affair() -> None:
    """`convolution` doesn't look at what is empty; `conv2d`, which was called in its place, does."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        w, b = graph.get_attr("w"), graph.get_attr("b")
        return graph.call_function(aten.convolution.default, (x, w, b, [1, 1], [0, 0], [1, 1], False, [0, 0], 1))

    module = graph_of(build, {"w": torch.randn(4, 8, 3, 3), "b": torch.randn(4)})
    x = torch.randn(0, 8, 5, 5).bfloat16()
    assert qegraph.optimize(module, (x,))(x).shape == module(x).shape == (0, 4, 3, 3)


@pytest.mark.parametrize("channels", [1, 8])
def test_max_pools_of_codes_read_rows(channels: int) -> None:
    """Torch's kernel counts the 128 positions of a channels-last image in 7 bits, and raises."""
    conv, x = Conv(2, o=channels), torch.randn(2, 8, 8, 16)
    gm = net(lambda conv, x: F.max_pool2d(q(conv(fq(x)), OUT_S8), 2), [conv], [x])
    assert has(checked(gm, [x]), "qconv") == 1


@dataclass(frozen=True)
class Windows:
    """Of a convolution with 8 channels; `reason` is the start of the guard's message, empty where int8 is right."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: int = 1
    reason: str = ""


STEPS, DEEP, WIDE = "a dilated window must not", "a padded image in three dims", "the result of a strided"
WINDOWS = {
    "steps over a row": Windows((2,), (3,), (1,), (3,), 3, STEPS),
    "steps over an image": Windows((2, 5), (3, 1), (1, 1), (3, 0), 3, STEPS),
    "steps inside a row": Windows((3,), (3,), (1,), (3,), 3),
    "steps inside an image": Windows((3, 5), (3, 3), (1, 1), (3, 3), 3),
    "no steps": Windows((1,), (1,), (2,), (1,), 2),
    "steps inside a volume": Windows((4, 8, 8), (3, 3, 3), (1, 1, 1), (2, 2, 2), 2, STEPS),
    "volume": Windows((4, 8, 8), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "flat volume": Windows((1, 8, 8), (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "padded flat volume": Windows((1, 8, 8), (3, 3, 3), (1, 1, 1), (1, 1, 1), 1, DEEP),
    "column": Windows((11, 3), (3, 3), (2, 2), (1, 0), 1, WIDE),
    "column of a volume": Windows((3, 8, 1), (3, 3, 2), (2, 2, 2), (1, 0, 1), 1, WIDE),
    "column of single steps": Windows((11, 3), (3, 3), (1, 1), (1, 0)),
    "column of a narrow window": Windows((11, 1), (3, 1), (2, 2), (1, 0)),
    "one patch": Windows((4, 4), (4, 4), (4, 4), (0, 0)),
    "one number": Windows((3,), (3,), (2,), (0,)),
}
"""What oneDNN's convolutions get wrong, and what is next to it: tests/BUGS.md, D35 and D36."""


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_that_kernels_get_wrong_stay_float(name: str) -> None:
    case = WINDOWS[name]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(case.image) - 1]
    windows = (case.stride, case.padding, case.dilation)
    x, weight = torch.randn(2, 8, *case.image), Weight(8, 8, *case.kernel)
    gm = net(lambda w, x: convolve(fq(x, usual(QP(0.031, 0))), w(), None, *windows), [weight], [x])
    if case.reason:
        assert stays_float(qegraph.optimize(gm, cost=int8_first)).startswith(case.reason)
    else:
        assert has(checked(gm, [x]), "qconv") == 1


@pytest.mark.parametrize("is_strided", [False, True])
def test_windows_of_any_width(is_strided: bool) -> None:
    """A width that isn't known may be one that kernels get wrong."""
    conv, x = Conv(2, options={"stride": 2} if is_strided else None), torch.randn(2, 8, 9, 9)
    module = Net(lambda conv, x: conv(fq(x)), [conv])
    exported = torch.export.export(module, (x,), dynamic_shapes=(({3: torch.export.Dim.AUTO},),)).module()
    assert has(qegraph.optimize(exported, (x,), cost=int8_first), "qconv") == (not is_strided)


def test_half_codes_of_any_batch() -> None:
    """Torch's own kernel for fake values took the symbolic size for the one that the graph was exported with."""

    class Codes(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return q(x.flatten(1, 2))

    x = torch.randn(3, 2, 2).half()
    exported = torch.export.export(Codes(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fast = qegraph.optimize(exported, (x,))
    for x in (torch.randn(2, 2, 2).half(), torch.randn(7, 2, 2).half()):
        assert torch.equal(fast(x), exported(x))


def test_an_operator_that_fixes_a_size() -> None:
    """Its kernel for fake values is wrong; nothing can be said of the sizes behind it, so the graph is kept."""
    fixes = False

    @torch.library.custom_op("qegraph_test_sizes::copied", mutates_args=())
    def copied(x: Tensor) -> Tensor:
        return x.clone()

    @copied.register_fake
    def _(x: Tensor) -> Tensor:
        return x.new_empty([int(size) if fixes else size for size in x.shape])

    class Copied(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return copied(x.flatten(1, 2)) + 1

    x = torch.randn(3, 2, 2)
    exported = torch.export.export(Copied(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    fixes = True
    fast = qegraph.optimize(exported, (x,))
    assert "copied.default" in str(qegraph.explain(fast)) and "fixes s" in str(qegraph.explain(fast))
    assert fast(torch.randn(5, 2, 2)).shape == (5, 4)


def test_a_mean_that_keeps_its_dims_has_no_view() -> None:
    module = graph_of(lambda graph, x: graph.call_function(aten.mean.dim, (x, [2, 3], True)))
    fast = qegraph.optimize(module, (torch.randn(2, 3, 4, 4),))
    assert [str(node.target) for node in fast.graph.nodes if node.op == "call_function"] == ["aten.mean.dim"]


def test_a_product_with_a_scalar() -> None:
    """A fact about the last dim of an operand that has none stopped the e-graph."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        largest = graph.call_function(aten.amax.default, (x,))
        return graph.call_function(aten.mul.Tensor, (graph.call_function(aten.mul.Tensor, (largest, largest)), x))

    module, x = graph_of(build), torch.randn(2, 3)
    assert torch.equal(qegraph.optimize(module, (x,))(x), module(x))


def test_one_column_has_the_stride_its_kernel_wants() -> None:
    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        matrix = graph.call_function(aten.to.dtype, (graph.get_attr("w"), torch.float32))
        product = graph.call_function(aten.linear.default, (x, matrix))
        return graph.call_function(aten.mul.Tensor, (product, graph.get_attr("s")))

    constants = {"w": torch.randint(-9, 9, (8, 1), dtype=torch.int8), "s": torch.rand(8)}
    module, x = graph_of(build, constants), torch.randn(1, 3).t()
    fast = qegraph.optimize(module, (x,), cost=int8_first)
    assert "_weight_int8pack_mm" in str(fast.graph)
    torch.testing.assert_close(fast(x), module(x))


def test_a_view_of_a_value_without_known_shape() -> None:
    """A mean that is a pooling window, in no source."""

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        mean = graph.call_function(aten.mean.dim, (x, [-1, -2], False))
        return graph.call_function(aten.relu.default, (mean,))

    module, x = graph_of(build), torch.randn(2, 3, 4, 4)
    for form in ("default", "dearest", "shaken 1", "shaken 2"):
        torch.testing.assert_close(optimized(module, (x,), None, form)(x), module(x))
