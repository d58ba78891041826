"""What a program computes, without any rounding but its quantizers', and by how much roundings can move it.

A fused graph rounds elsewhere than the q/dq graph does, and one code that falls on the other side of a tie may be
amplified without bound by what follows (a product, a norm, a tie further on). Two graphs that are both right can thus
differ by more than any tolerance. What is wrong is decided as follows, never by a tolerance found by trying:

1. The program is run in float64 (`qegraph.prove.exact`), where only quantizers round: the truth T.
2. It is run again `RUNS` times, with every float value moved by a few units in the last place of the dtype that the
   program gives it, each element up or down at random. That is at least what another order of the same sums, another
   fusing or another spelling of a scale can do, and it goes through all that follows: the runs tell how ill-conditioned
   each output is, be it by cancellation or by a small variance.
3. A quantizer's element is a near-tie if the distance of its real value from the nearest tie is not `MARGIN` times what
   the noise moved it by. No implementation of this precision can round any other element differently.
4. A program without near-ties is decided. So is one whose near-ties only an output reads, through ops that compute
   nothing from them: these codes may be 1 off. Everything else is then an amplification of roundings that is bounded by
   the noise, and outputs are compared with T strictly (`qegraph.fuzz.judge`).
5. In a program with near-ties other inputs are drawn, up to a limit. If all draws have them (the mean of two equal
   quantizers' codes is a tie half of the time), an output that disagrees with T and with every noisy run is not called
   wrong but undecided, and counted: the fuzzer says how many there were.

The q/dq graph itself, as torch runs it in its own dtypes, must pass the same comparison; where it doesn't (torch's own
float kernels are less exact than assumed here), the program is undecided too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qegraph.prove.exact import Exact
from qegraph.torch_names import aten

RUNS = 4
MARGIN = 6.0
UNITS = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Relative size of the noise by dtype: two roundings to the nearest for float32, one for half precision."""

_CASTS = (aten.to.dtype, aten._to_copy.default)


@dataclass(frozen=True)
class Truth:
    """What a program computes on some inputs.

    outputs  the float64 run's, flat; codes as codes.
    moved    for each output, element by element: the most that a noisy run differs from it.
    noisy    the noisy runs' outputs.
    ties     how many elements of quantizers, other than of those that only outputs read, are near-ties.
    """

    outputs: Sequence[Tensor]
    moved: Sequence[Tensor]
    noisy: Sequence[Sequence[Tensor]]
    ties: int

    @property
    def decided(self) -> bool:
        return self.ties == 0


def truth(module: fx.GraphModule, inputs: Sequence[Tensor], seed: int = 0) -> Truth:
    """By one run without noise and `RUNS` with it."""
    with torch.no_grad():
        dtypes = _dtypes(module, inputs)
        quiet, *noisy = (_Noisy(module, dtypes, None if i == 0 else seed * RUNS + i) for i in range(RUNS + 1))
        outputs, *others = (_leaves(each, module.graph, inputs) for each in (quiet, *noisy))
    moved = [
        torch.stack([(other[at].double() - one.double()).abs() for other in others]).amax(0)
        for at, one in enumerate(outputs)
    ]
    inner = [node.name for node in module.graph.nodes if node.name in quiet.reals and not _only_returned(node)]
    ties = sum(_near_ties(quiet.reals[name], [each.reals[name] for each in noisy]) for name in inner)
    return Truth(outputs, moved, others, ties)


def _leaves(run: _Noisy, graph: fx.Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    flat = graph.process_inputs(*(each.clone() for each in inputs))
    doubled = [each.double() if each.is_floating_point() else each for each in flat]
    return [each.clone() for each in pytree.tree_leaves(run.run(*doubled, enable_io_processing=False))]


def _only_returned(node: fx.Node) -> bool:
    return all(user.op == "output" for user in node.users)


def _near_ties(real: Tensor, noisy: Sequence[Tensor]) -> int:
    """Those of one quantizer, given what it rounds, clamped to its range, in codes."""
    if not real.numel():
        return 0
    moved = torch.stack([(each - real).abs() for each in noisy]).amax(0)
    distance = ((real - real.floor()) - 0.5).abs()
    return int((distance <= MARGIN * moved + 1e-6).sum())


class _Noisy(Exact):
    """Every float value that is computed is moved by at most `UNITS` of its dtype; by nothing without a seed."""

    def __init__(self, module: fx.GraphModule, dtypes: Mapping[str, torch.dtype], seed: int | None) -> None:
        super().__init__(module)
        self.dtypes = dtypes
        self.copied = _copied(module.graph, dtypes)
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op != "call_function" or self.generator is None or not isinstance(result, Tensor):
            return result
        if result.dtype != torch.float64 or self._is_view(n, result):
            return result
        signs = torch.randint(0, 2, result.shape, generator=self.generator) * 2 - 1
        return result * (1 + signs * UNITS[self.dtypes[n.name]])

    def _is_view(self, n: fx.Node, result: Tensor) -> bool:
        """Or written in place: it must stay the same memory, and its elements have had their noise."""
        memory = result.untyped_storage().data_ptr()
        operands = (self.env[each] for each in n.all_input_nodes)
        return any(isinstance(each, Tensor) and each.untyped_storage().data_ptr() == memory for each in operands)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = super().get_attr(target, args, kwargs)
        is_float = isinstance(found, Tensor) and found.is_floating_point()
        return found.double() if is_float else found

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        return None  # an export's checks of what it is given

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A cast to a float changes no value, but where torch copies, it copies."""
        if target in _CASTS:
            if not args[0].is_floating_point():
                return args[0].double()
            return args[0].clone() if self.name in self.copied else args[0]
        if target is aten._assert_tensor_metadata.default:
            return None
        return super().call_function(target, args, kwargs)


def _copied(graph: fx.Graph, dtypes: Mapping[str, torch.dtype]) -> frozenset[str]:
    """The casts that give memory of their own."""
    return frozenset(
        node.name
        for node in graph.nodes
        if node.target is aten._to_copy.default
        or (node.target is aten.to.dtype and dtypes[node.args[0].name] != dtypes[node.name])
    )


class _Dtypes(fx.Interpreter):
    """Runs a graph as torch does and keeps the dtype of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, torch.dtype] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n.name] = result.dtype
        return result


def _dtypes(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Mapping[str, torch.dtype]:
    run = _Dtypes(module)
    run.run(*module.graph.process_inputs(*(each.clone() for each in inputs)), enable_io_processing=False)
    return run.found
