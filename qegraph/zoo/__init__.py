"""Models with random weights and the recipe that quantizes them, for tests, the demo and the benchmark.

Nothing is downloaded: the speed of a graph and the soundness of a rewrite don't depend on trained weights.
"""

from .catalogue import load as load
from .catalogue import names as names
from .entry import Inputs as Inputs
from .entry import Size as Size
from .recipe import CALIBRATION_BATCHES as CALIBRATION_BATCHES
from .recipe import MissingExtra as MissingExtra
from .recipe import draw as draw
from .recipe import missing_extra as missing_extra
from .recipe import quantize as quantize
