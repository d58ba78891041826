"""Which constants are computed once, when the graph is emitted, although a source value stands for them."""

from __future__ import annotations

from qegraph.cost import elements, size
from qegraph.snapshot import ENode, Snapshot

_MAX_WIDENED = 1 << 16
"""Elements; a larger constant that is made wider costs memory that the source graph doesn't spend."""


def folds(snapshot: Snapshot, node: ENode) -> bool:
    """All operands are constants, and the result takes no more memory than the first of them, or little."""
    if node.eclass in snapshot.returned or not snapshot.constants.issuperset(node.children):
        return False
    source = node.children[0]
    return size(snapshot, node.eclass) <= size(snapshot, source) or elements(snapshot, source) <= _MAX_WIDENED
