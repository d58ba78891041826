"""How each engine is run on a cell: the benchmark's variants, and which of them may take the process down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qegraph.bench import BUILDERS, Subject
from qegraph.bench.variants import Built


@dataclass(frozen=True)
class Route:
    """`slow` means seconds a cell: only a sample of the cells is run unless all are asked for."""

    name: str
    title: str
    build: Callable[[Subject], Built]
    slow: bool = False


def _variant(name: str, title: str, slow: bool = False) -> Route:
    return Route(name, title, BUILDERS[name], slow)


OURS = "qegraph"
ROUTES: Mapping[str, Route] = {
    route.name: route
    for route in (
        _variant(OURS, "qegraph, eager"),
        _variant("torchao", "torchao's lowering, eager"),
        _variant("inductor", "torch.compile with freezing", slow=True),
    )
}
