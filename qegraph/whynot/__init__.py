"""`why_not`: why a rule didn't apply at a node of the input graph, and what would make it."""

from qegraph.whynot.ask import diagnose, why_not
from qegraph.whynot.verdict import Verdict, WhyNot

__all__ = ["Verdict", "WhyNot", "diagnose", "why_not"]
