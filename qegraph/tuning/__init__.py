"""Costs that come from the running machine: its rates (`calibrate`), and the time of single kernels (`measured`).

Both are kept in one file per processor, thread count and torch version (`store`).
"""

from .calibration import STAGES as STAGES
from .calibration import calibrate as calibrate
from .measuring import Tuning as Tuning
from .measuring import measured as measured
from .store import Store as Store
