"""What users rely on without looking: that optimizing again changes nothing, and that a graph has one result."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from builders import Linear, checked, fq, has, int8_first, net
from torch import Tensor, fx

import qegraph
from qegraph import zoo
from qegraph.fuzz import grow

QUICK_MODELS = ("resnet18", "bert_base")
SEEDS = (0, 14, 27, 47, 83)
"""Of programs whose result, searched again as if it were a source, is another graph: views, order of constants."""


def _quantized(name: str) -> fx.GraphModule:
    model, inputs = zoo.load(name, "small")
    return zoo.quantize(model, inputs)


def _is_kept(fast: fx.GraphModule, inputs: Sequence[Tensor] | None = None) -> None:
    again = qegraph.optimize(fast, inputs)
    assert again is not fast and again.code == fast.code
    assert str(qegraph.explain(again)) == str(qegraph.explain(fast))
    assert qegraph.optimize(copy.deepcopy(again), inputs).code == fast.code


@pytest.mark.parametrize("name", QUICK_MODELS)
def test_a_result_is_kept(name: str) -> None:
    _is_kept(qegraph.optimize(_quantized(name)))


@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in QUICK_MODELS])
def test_a_result_of_any_model_is_kept(name: str) -> None:
    _is_kept(qegraph.optimize(_quantized(name)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_result_of_a_program_is_kept(seed: int) -> None:
    program = grow(seed)
    _is_kept(qegraph.optimize(program.module, program.inputs), program.inputs)


def _layer() -> tuple[fx.GraphModule, Tensor]:
    x = torch.randn(4, 24)
    return net(lambda linear, x: fq(linear(fq(x))), [Linear()], [x]), x


def test_another_result_is_searched_for() -> None:
    gm, _ = _layer()
    fast = qegraph.optimize(gm)
    report = qegraph.explain(fast)
    assert qegraph.explain(qegraph.optimize(fast, rules=["default"])) is report
    assert qegraph.explain(qegraph.optimize(fast, rules=[])) is not report
    assert qegraph.explain(qegraph.optimize(fast, target="compiled")) is not report


def test_an_edited_result_is_searched_again() -> None:
    """Edited in place, and not even compiled again."""
    gm, x = _layer()
    fast = qegraph.optimize(gm, require="int8")
    output = fast.graph.output_node()
    with fast.graph.inserting_before(output):
        relu = fast.graph.call_function(torch.ops.aten.relu.default, tuple(output.all_input_nodes))
        again = fast.graph.call_function(torch.ops.aten.relu.default, (relu,))
    output.args = ((again,),)
    fast.recompile()
    twice = qegraph.optimize(fast, (x,), require="int8")
    assert torch.equal(twice(x)[0], fast(x)[0]) and sum("relu" in str(node.target) for node in twice.graph.nodes) < 2


def test_the_sources_names_stay_its_own() -> None:
    """A constant of ours took the name, and so the place, of one that the source had, as results of ours have."""
    x = torch.randn(4, 24)
    gm = net(lambda linear, x: linear(fq(x)), [Linear()], [x])
    names = [str(node.target) for node in qegraph.optimize(gm, cost=int8_first).graph.nodes]
    ours = [name for name in names if name.startswith(("packed_", "_w"))]
    assert ours
    output = gm.graph.output_node()
    (node,) = output.all_input_nodes
    with gm.graph.inserting_before(output):
        for number, name in enumerate(ours, 2):
            gm.register_buffer(name, torch.full((1,), float(number)))
            node = gm.graph.call_function(torch.ops.aten.add.Tensor, (node, gm.graph.get_attr(name)))
    output.args = ((node,),)
    gm.recompile()
    assert has(checked(gm, [x]), "qlinear") == 1


# -- determinism -------------------------------------------------------------------------------------------------------

_SHOW = """
import sys, torch
torch.set_num_threads(1)
import qegraph
from qegraph import zoo
from qegraph.fuzz import grow
name, *seeds = sys.argv[1:]
model, inputs = zoo.load(name, "small")
given = [(zoo.quantize(model, inputs), None)]
given += [(each.module, each.inputs) for each in (grow(int(seed)) for seed in seeds)]
for module, inputs in given:
    fast = qegraph.optimize(module, inputs)
    print(fast.code, repr(qegraph.explain(fast).cost))
"""


def _shown(hash_seed: int, name: str, seeds: Sequence[int]) -> str:
    """Code and cost of a model's and some programs' results, from a process of its own."""
    command = [sys.executable, "-c", _SHOW, name, *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hashes_decide_nothing() -> None:
    one, other = (_shown(seed, "resnet18", range(4)) for seed in (1, 2))
    assert one == other and "qconv_pointwise" in one


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "bert_base"])
def test_ten_hash_seeds_give_one_result(name: str) -> None:
    assert len({_shown(seed, name, range(20)) for seed in range(10)}) == 1
