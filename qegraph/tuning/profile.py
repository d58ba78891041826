"""The time of every e-node of an emitted graph, read off whole runs of it.

Each call is timed in its place: weights and activations are as cold or warm as the model leaves them, layouts are the
real ones, and what Python adds to a call is in it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from qegraph.emit import META
from qegraph.inputs import Inputs
from qegraph.timing import at_usual_speed

_WARMUP_RUNS = 2

Run = Callable[[dict[fx.Node, Any]], Any]


def profile(module: fx.GraphModule, inputs: Inputs, runs: int) -> Mapping[int, float]:
    """e-node index -> µs a run: the median over `runs` runs of the time of its nodes. Inputs aren't written.

    A run that as a whole takes longer than the median one is told shorter by as much, with all its nodes: a processor
    that others use too changes its speed from run to run, and less within one.
    """
    plan = _plan(module)
    each: list[Mapping[int, int]] = []
    with torch.no_grad():
        for run in range(_WARMUP_RUNS + runs):
            spent: defaultdict[int, int] = defaultdict(int)
            _run(plan, inputs, spent)
            if run >= _WARMUP_RUNS:
                each.append(spent)
    totals = [sum(spent.values()) for spent in each]
    return {index: at_usual_speed([spent[index] for spent in each], totals) / 1e3 for index in each[0]}


def _plan(module: fx.GraphModule) -> list[tuple[fx.Node, Callable[..., Any] | None, int | None, tuple[fx.Node, ...]]]:
    """(node, what to call, e-node that pays, values read for the last time) in order."""
    last: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        for operand in node.all_input_nodes:
            last[operand] = node
    dead: defaultdict[fx.Node, list[fx.Node]] = defaultdict(list)
    for operand, node in last.items():
        dead[node].append(operand)
    return [
        (node, _callable(module, node), _payer(node), tuple(dead[node]))
        for node in module.graph.nodes
        if node.op != "output"
    ]


def _callable(module: fx.GraphModule, node: fx.Node) -> Callable[..., Any] | None:
    if node.op == "call_function":
        return node.target  # pyright: ignore[reportReturnType]
    if node.op == "call_module":
        return module.get_submodule(str(node.target))
    if node.op == "call_method":
        return lambda owner, *args, **kwargs: getattr(owner, str(node.target))(*args, **kwargs)
    if node.op == "get_attr":
        parent, _, name = str(node.target).rpartition(".")
        owner = module.get_submodule(parent)
        return lambda: getattr(owner, name)
    return None


def _payer(node: fx.Node) -> int | None:
    """The e-node a node belongs to; what none owns (a packed weight is fetched) belongs to its first reader's."""
    while META not in node.meta and node.users:
        node = next(iter(node.users))
    made = node.meta.get(META)
    return made["enode"] if made else None


def _run(plan: Sequence[Any], inputs: Inputs, spent: dict[int, int]) -> None:
    values: dict[fx.Node, Any] = {}
    rest = iter(inputs)
    clock = time.perf_counter_ns
    for node, call, payer, dead in plan:
        if call is None:
            values[node] = next(rest)
            continue
        args = map_arg(node.args, values.__getitem__)
        kwargs = map_arg(node.kwargs, values.__getitem__)
        begin = clock()
        values[node] = call(*args, **kwargs)
        del args, kwargs
        for operand in dead:  # giving memory back takes time too
            del values[operand]
        if payer is not None:
            spent[payer] += clock() - begin
