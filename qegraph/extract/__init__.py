"""Extraction: the cheapest sound program in a saturated e-graph, every shared value paid once.

`units` counts costs, `prune` shrinks the e-graph, `landmarks` finds what every solution uses, `group` makes one operand
of those that e-nodes share, `model` writes the rest as a sum of small tables (`cycles`: those that forbid cyclic
choices), `solve` minimises it part by part: `eliminate` exactly, and where the tables would grow too large, around a
`greedy` solution that `ilp` improves. `gym` reads and writes e-graphs as files.
"""

from qegraph.extract.pipeline import extract
from qegraph.extract.selection import Selection

__all__ = ["Selection", "extract"]
