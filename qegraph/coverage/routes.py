"""How each engine is run on a cell: the benchmark's variants, and which of them may take the process down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qegraph.bench import BUILDERS, Subject, count
from qegraph.bench.subject import Built
from qegraph.cost import COMPILED
from qegraph.pipeline import optimize
from qegraph.pricing import default_cost
from qegraph.snapshot import ENode, Snapshot


@dataclass(frozen=True)
class Route:
    """`slow` means seconds a cell: only a sample of the cells is run unless all are asked for."""

    name: str
    title: str
    build: Callable[[Subject], Built]
    slow: bool = False


_UNFUSED = frozenset(
    ("Gemm", "Matmul", "IntMatmul", "Quantize", "Dequantize", "Unary", "Add", "Mul", "Div", "Cast", "BatchNorm")
)


def _kernels_first(snapshot: Snapshot, node: ENode) -> float:
    """What kernels could take in, at a millisecond more, and cuts of a joined result for nothing: cells are small."""
    return 0.0 if node.op == "Part" else default_cost(snapshot, node, COMPILED) + 1e3 * (node.op in _UNFUSED)


def _ours(subject: Subject) -> Built:
    fast = optimize(subject.copy(), cost=_kernels_first)
    return Built(fast, count(fast), 0.0)


def _variant(name: str, title: str, slow: bool = False) -> Route:
    return Route(name, title, BUILDERS[name], slow)


OURS = "qegraph"
ROUTES: Mapping[str, Route] = {
    route.name: route
    for route in (
        Route(OURS, "qegraph, eager, kernels first", _ours),
        _variant("torchao", "torchao's lowering, eager"),
        _variant("inductor", "torch.compile with freezing", slow=True),
    )
}
