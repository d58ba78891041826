"""What is called equal and can't be: values of two dtypes, shapes or constants, and which rules said so.

The e-graph itself refuses two dtypes or shapes (`dtype` and `shape` are `:no-merge`), so that alarm is always on, and
`blame` only looks for the rules once there is a conflict. Constants must be evaluated: `disagreeing_constants`, asked
of each search where the environment has `QEGRAPH_ALARMS` set, as it is in tests, and by the fuzzer.
"""

from qegraph.alarms.blame import blame as blame
from qegraph.alarms.constants import disagreeing_constants as disagreeing_constants

CONSTANTS = "QEGRAPH_ALARMS"
"""Environment variable: anything but the empty string has the constants of every search compared."""
