"""How near a rule came to applying at a value: the deepest partial match, the first guard that fails, what it saw."""

from qegraph.nearmiss.find import Near, applied, nearest
from qegraph.nearmiss.partial import Mismatch, Partial
from qegraph.nearmiss.reasons import reasons
from qegraph.nearmiss.tables import Tables
from qegraph.nearmiss.text import found_instead, observed

__all__ = ["Mismatch", "Near", "Partial", "Tables", "applied", "found_instead", "nearest", "observed", "reasons"]
