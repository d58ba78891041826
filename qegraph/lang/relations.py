"""What guards may ask about values, parameters, kinds and functions: relations, and functions with one value.

`qegraph.facts` derives them; the encoder and the readers of `qegraph.ops` set those that need the tensors themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DECLARATIONS = """
(function dtype (T) String :no-merge)
(function shape (T) Dims :no-merge)
(function rank (T) i64 :no-merge)
(function last-dim (T) i64 :no-merge)
(relation constant (T))
(relation below-128 (T))
(relation accumulates (T))
(relation bias-fits (T T))
(relation scales-fit (Q T))
(relation sound-scales (T))
(relation zeros (T))
(function position (M i64) i64 :no-merge)
(relation symmetric (Q))
(relation along-outputs (Q))
(relation per-tensor (Q))
(relation positive (Q))
(relation spans-dtype (Q))
(relation bytes (Q))
(relation saturates-at-zero (Q))
(relation present (String))
(relation exact-here (T Q))
(relation not-empty (T))
(relation pads-well (K Q T))
(relation steps-inside (K T T))
(relation deep-enough (K T))
(relation wide-enough (K T T))
(relation from-accumulator (T))
(relation absorbs (T))
(relation sums-rows (String))
(relation joins (String))
(function layout (Q) Dims :no-merge)
(relation attends (String))
(function place (T) i64 :merge (max old new))
(function parts (T) i64 :merge (min old new))
(function next-sibling (K T Q F Q Dims i64) i64 :merge (min old new))
(function block (K) i64 :no-merge)
(function stretch (M Dims) i64 :no-merge)
(relation inverse (M M))
(relation keeps-order (M Dims))
(relation gates (F F))
(relation moves-out (T f64))
(relation float-dtype (String))
(relation half-dtype (String))
(relation stacks (T T))
(relation finite (T))
(relation float32-or-nothing (T))
(relation scalable (T))
(relation one-element (T))
(relation per-output (T i64 i64))
(relation weight-only-fits (T String))
(relation accepts (String String String String))
(relation reads (String String))
(relation unpadded (K))
(function step (Q) f64 :no-merge)
(function largest-sum (Q T) f64 :no-merge)
(relation reads-weights (String String))
(function family (Q) String :no-merge)
(function spatial-dims (K) i64 :no-merge)
(function storage (Q) String :no-merge)
(function q-dtype (Q) String :no-merge)
(function kind-name (K) String :no-merge)
(function fn-name (F) String :no-merge)
(function dtype-low (String) i64 :no-merge)
(function dtype-high (String) i64 :no-merge)
"""


@dataclass(frozen=True)
class Relation:
    """sorts of its arguments, and of its value: "" for a relation, which holds or doesn't."""

    columns: tuple[str, ...]
    sort: str = ""


def _declared() -> Mapping[str, Relation]:
    found: dict[str, Relation] = {}
    for line in DECLARATIONS.strip().splitlines():
        head, _, rest = line.removeprefix("(").partition("(")
        columns, _, tail = rest.partition(")")
        kind, name = head.split()
        found[name] = Relation(tuple(columns.split()), tail.split()[0] if kind == "function" else "")
    return found


RELATIONS = _declared()
"""By name, in the order they are declared."""
