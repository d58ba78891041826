"""`qegraph bench`: a quantized model through every route there is, in one process, compared fairly."""

from qegraph.machine import describe as describe
from qegraph.timing import threads as threads

from .counts import Counts as Counts
from .counts import count as count
from .demo import demo as demo
from .fidelity import Fidelity as Fidelity
from .fidelity import fidelity as fidelity
from .fidelity import fidelity_table as fidelity_table
from .run import Result as Result
from .run import Settings as Settings
from .run import bench as bench
from .run import measure as measure
from .subject import Subject as Subject
from .table import show as show
from .table import tables as tables
from .table import to_json as to_json
from .variants import BUILDERS as BUILDERS
from .variants import DEFAULT as DEFAULT
