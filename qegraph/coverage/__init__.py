"""`qegraph coverage`: tiny quantized graphs through every route, counted, with their numbers checked."""

from .cell import Cell as Cell
from .cell import Left as Left
from .judge import Outcome as Outcome
from .judge import Verdict as Verdict
from .judge import judge as judge
from .matrix import NAMES as NAMES
from .matrix import cells as cells
from .routes import OURS as OURS
from .routes import ROUTES as ROUTES
from .run import Settings as Settings
from .run import coverage as coverage
from .run import spread as spread
from .run import steps as steps
from .table import failures as failures
from .table import summary as summary
from .table import table as table
from .table import to_json as to_json
