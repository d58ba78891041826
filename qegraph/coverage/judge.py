"""One cell through one route: built, run twice, compared, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from qegraph.bench import Counts, Subject
from qegraph.bench.subject import Built, Runner
from qegraph.emit import META
from qegraph.validate import validate

from .cell import Cell
from .contract import changed, disagreement, less_exact
from .truth import truth


class Verdict(StrEnum):
    """`right` is all that is asked of a cell no kernel is able to do; the others are of the same correctness."""

    FUSED = "fused"
    RIGHT = "right"
    FLOAT = "left float"
    WRONG = "wrong"
    CRASH = "crash"


@dataclass(frozen=True)
class Outcome:
    """`reason` says what is left, wrong or raised; empty for the first two verdicts."""

    family: str
    cell: str
    route: str
    verdict: Verdict
    reason: str = ""


def judge(cell: Cell, route: str, build: Callable[[Subject], Built]) -> Outcome:
    """What the route makes of the cell. An error in making the cell itself is raised."""
    verdict, reason = _judge(cell, build)
    return Outcome(cell.family, cell.name, route, verdict, reason)


def _judge(cell: Cell, build: Callable[[Subject], Built]) -> tuple[Verdict, str]:
    module, inputs = cell.made
    graph = cell.graph()
    code = graph.code
    with torch.no_grad():
        wanted = _tensors(graph(*_fresh(inputs)))
        try:
            torch.compiler.reset()
            built = build(Subject(module, graph, _fresh(inputs)))
            wrong, found = _run(built, _fresh(inputs))
        except Exception as problem:  # whatever its type, it is the finding
            return Verdict.CRASH, f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
    unlike = _compare(cell, wanted, found)
    if unlike and all(each.is_floating_point() for each in wanted) and _rounds_a_tie(graph, built.run, inputs):
        unlike = None
    wrong = wrong or ("the given graph was changed" if graph.code != code else None) or unlike
    if wrong:
        return Verdict.WRONG, wrong
    return _fused(cell, built.counts)


def _run(built: Built, inputs: tuple[Tensor, ...]) -> tuple[str | None, list[Tensor]]:
    """The outputs of a first call, and what a second one shows to be wrong with calling."""
    before = _fresh(inputs)
    with torch.compiler.set_stance("fail_on_recompile"):
        first = _tensors(built.run(*inputs))
        kept = [each.clone() for each in first]
        again = _tensors(built.run(*inputs))
    if changed(before, inputs):
        return "an input was overwritten", kept
    if changed(kept, again):
        return "the second call differs", kept
    return ("the second call overwrote the first one's result" if changed(kept, first) else None), kept


def _compare(cell: Cell, wanted: Sequence[Tensor], found: Sequence[Tensor]) -> str | None:
    if len(wanted) != len(found):
        return f"{len(found)} outputs instead of {len(wanted)}"
    if cell.half:
        module, inputs = cell.made
        return less_exact(truth(module, inputs), wanted, found)
    return next(
        (reason for one, other in zip(wanted, found, strict=True) if (reason := disagreement(one, other))), None
    )


def _rounds_a_tie(graph: GraphModule, run: Runner, inputs: Sequence[Tensor]) -> bool:
    """Ours, where codes on the way are one off at ties, and all values, fed the unfused graph's, keep the contract."""
    if not isinstance(run, GraphModule) or META not in run.meta:
        return False
    found = validate(graph, run, _fresh(inputs))
    return all(each.within_contract for each in found) and any(each.integer and each.worst for each in found)


def _fused(cell: Cell, counts: Counts | None) -> tuple[Verdict, str]:
    if cell.fused is None:
        return Verdict.RIGHT, ""
    excess = cell.fused.excess(counts) if counts else "no graph to look at"
    return (Verdict.FLOAT, excess) if excess else (Verdict.FUSED, "")


def _fresh(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(each.clone() for each in inputs)


def _tensors(result: object) -> list[Tensor]:
    return [leaf.detach() for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
