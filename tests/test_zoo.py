"""The zoo: every model loads, quantizes with the default recipe and depends on nothing but its arguments."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.fx import GraphModule

from qegraph import zoo
from qegraph.bench.counts import count, operator_name
from qegraph.errors import QegraphError

NAMES = [pytest.param(name, marks=pytest.mark.zoo) if name == "densenet121" else name for name in zoo.names()]
"""A densenet, even a small one, takes as long as the others together."""


def _quantized(name: str) -> tuple[GraphModule, zoo.Inputs]:
    model, inputs = zoo.load(name, "small")
    return zoo.quantize(model, inputs, calibration_batches=2), inputs


def _first(output: object) -> torch.Tensor:
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_model_quantizes_and_stays_close_to_float(name: str) -> None:
    model, inputs = zoo.load(name, "small")
    graph = zoo.quantize(model, inputs, calibration_batches=2)
    counts = count(graph)
    assert counts.quantize and counts.dequantize > counts.quantize
    assert counts.float_gemms and not counts.int8_gemms
    with torch.no_grad():
        wanted, found = _first(model(*inputs)), _first(graph(*inputs))
    assert wanted.std() > 1e-3, "the model's output is degenerate"
    assert (found - wanted).abs().mean() < 0.2 * wanted.abs().mean()


@pytest.mark.parametrize("name", ["mobilenet_v2", "llama_style"])
def test_activations_are_not_degenerate(name: str) -> None:
    graph, _ = _quantized(name)
    quantizers = [node for node in graph.graph.nodes if operator_name(node) == "quantize_per_tensor"]
    scales = {node.args[1] for node in quantizers}
    assert len(scales) > len(quantizers) // 2
    assert min(scales) > 1e-6
    assert len({node.args[2] for node in quantizers}) > 2, "zero points should differ"


@pytest.mark.parametrize("name", zoo.names())
def test_load_depends_on_the_seed_alone(name: str) -> None:
    one, one_inputs = zoo.load(name, "small", seed=3)
    torch.rand(7)
    two, two_inputs = zoo.load(name, "small", seed=3)
    other, _ = zoo.load(name, "small", seed=4)
    same = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    differ = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)]
    assert all(same) and not all(differ)
    assert all(torch.equal(a, b) for a, b in zip(one_inputs, two_inputs, strict=True))
    assert not one.training and not any(part.training for part in one.modules())


def test_quantize_is_deterministic_and_leaves_random_state_and_model_alone() -> None:
    model, inputs = zoo.load("resnet18", "small")
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    one, two = zoo.quantize(model, inputs, 2), zoo.quantize(model, inputs, 2)
    zoo.load("resnet18", "small")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert one.code == two.code
    assert torch.equal(one(*inputs), two(*inputs))


def test_own_calibration_batches_are_used() -> None:
    model, inputs = zoo.load("resnet18", "small")
    small, large = (zoo.quantize(model, inputs, [tuple(x * gain for x in inputs)]) for gain in (1.0, 10.0))
    scales = [
        next(node.args[1] for node in graph.graph.nodes if operator_name(node) == "quantize_per_tensor")
        for graph in (small, large)
    ]
    assert scales[1] == pytest.approx(10 * scales[0], rel=1e-4)


def test_layers_option_deepens_a_transformer() -> None:
    shallow, deep = (zoo.load("llama_style", "small", layers=layers)[0] for layers in (1, 5))
    kinds = [Counter(type(part).__name__ for part in model.modules()) for model in (shallow, deep)]
    assert [each["DecoderLayer"] for each in kinds] == [1, 5]


def test_unknown_names_are_explained() -> None:
    with pytest.raises(QegraphError, match="no option depth"):
        zoo.load("llama_style", depth=3)
    with pytest.raises(QegraphError, match="resnet18"):
        zoo.load("resnet81")


def test_drawn_inputs_are_like_the_example() -> None:
    example = (torch.tensor([[2, 9, 4]]), torch.zeros(1, 3))
    drawn = zoo.draw(example, 50, seed=1)
    tokens = torch.cat([numbers for numbers, _ in drawn])
    assert (int(tokens.min()), int(tokens.max())) == (2, 9)
    assert {floats.shape for _, floats in drawn} == {torch.Size([1, 3])}
