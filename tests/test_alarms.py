"""Rules that contradict each other are named, with the nodes they are about."""

from __future__ import annotations

import pytest
import torch
from builders import net
from torch import fx

import qegraph
from qegraph.alarms import CONSTANTS
from qegraph.errors import ConflictError
from qegraph.lang import Tensor, rewrite, rule
from qegraph.lang.rule import Rewrite
from qegraph.lang.vocabulary import cast, clamp, move, mul, relu, unary, vec, view

aten = torch.ops.aten


@rule
def another_dtype(x: Tensor) -> Rewrite:
    """relu(x) = x as bfloat16, which has another dtype"""
    return rewrite(unary(relu(), x)).to(cast(x, "bfloat16"))


@rule
def another_shape(x: Tensor) -> Rewrite:
    """relu(x) = x flattened"""
    return rewrite(unary(relu(), x)).to(move(view(vec(8)), x))


@rule
def relu_is_a_clamp(x: Tensor) -> Rewrite:
    """relu(x) = clamp(x, 0, 6), of the same shape"""
    return rewrite(unary(relu(), x)).to(unary(clamp(0.0, 6.0), x))


@rule
def clamp_is_flat(x: Tensor) -> Rewrite:
    """clamp(x, 0, 6) = x flattened"""
    return rewrite(unary(clamp(0.0, 6.0), x)).to(move(view(vec(8)), x))


@rule
def product_is_the_factor(x: Tensor, c: Tensor) -> Rewrite:
    """relu(x c) = c"""
    return rewrite(unary(relu(), mul(x, c))).to(c)


@rule
def product_is_its_half(x: Tensor, c: Tensor) -> Rewrite:
    """relu(x c) = the c rounded to bfloat16 and back"""
    return rewrite(unary(relu(), mul(x, c))).to(cast(cast(c, "bfloat16"), "float32"))


def relu_of() -> fx.GraphModule:
    return net(lambda x: torch.relu(x), [], [torch.randn(2, 4)])


def relu_of_product() -> fx.GraphModule:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(
        graph.call_function(aten.relu.default, (graph.call_function(aten.mul.Tensor, (x, graph.get_attr("c"))),))
    )
    return fx.GraphModule({"c": torch.rand(2, 4)}, graph)


def test_two_dtypes() -> None:
    with pytest.raises(ConflictError) as caught:
        qegraph.optimize(relu_of(), rules=[another_dtype])
    message = str(caught.value)
    assert caught.value.fact == "dtype"
    assert "rule another-dtype (" in message and "test_alarms.py:" in message
    assert "'relu' of the source" in message and "float32 of one and bfloat16 of the other" in message


def test_two_shapes() -> None:
    with pytest.raises(ConflictError, match=r"shape is \(2, 4\) of one and \(8,\) of the other") as caught:
        qegraph.optimize(relu_of(), rules=["default", another_shape])
    assert caught.value.fact == "shape" and "rule another-shape" in str(caught.value)


def test_both_rules_are_named() -> None:
    """One is sound, as far as shapes tell; the second contradicts what the source says of the value of both."""
    with pytest.raises(ConflictError, match="shape is") as caught:
        qegraph.optimize(relu_of(), rules=[relu_is_a_clamp, clamp_is_flat])
    message = str(caught.value)
    assert "rule clamp-is-flat (" in message and "what rule relu-is-a-clamp (" in message


def test_two_constants() -> None:
    gm, x = relu_of_product(), torch.randn(2, 4)
    with pytest.raises(ConflictError, match="two constants are called equal") as caught:
        qegraph.optimize(gm, (x,), rules=[product_is_the_factor, product_is_its_half])
    message = str(caught.value)
    assert caught.value.fact == "constant" and "'c' of the source" in message
    assert "rule product-is-the-factor (" in message and "rule product-is-its-half (" in message


def test_constants_are_only_compared_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONSTANTS)
    gm, x = relu_of_product(), torch.randn(2, 4)
    qegraph.optimize(gm, (x,), rules=[product_is_the_factor, product_is_its_half])


def test_sound_rules_raise_no_alarm() -> None:
    gm, x = relu_of_product(), torch.randn(2, 4)
    assert torch.equal(qegraph.optimize(gm, (x,))(x), gm(x))
