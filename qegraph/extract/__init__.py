"""Extraction: the cheapest sound program in a saturated e-graph, every shared value paid once.

`prune` shrinks the e-graph, `landmarks` finds what every solution uses, `model` writes the rest as a sum of small
tables (`cycles`: those that forbid cyclic choices), `solve` minimises it part by part: `eliminate` exactly, and around
a `greedy` solution where the tables would grow too large.
"""

from qegraph.extract.pipeline import extract
from qegraph.extract.selection import Selection

__all__ = ["Selection", "extract"]
