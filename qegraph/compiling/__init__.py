"""`torch.compile(model, backend="qegraph")`: what Dynamo traces, optimised, then compiled by Inductor.

`options` reads what the user asks for; `freeze` makes constants of a module's state, `normalise` operators of its
functions; `refuse` says what is left to Inductor alone; `hand_over` readies the optimised graph for it, `tuned` tries
its settings; `run` calls the code; `reports` keeps what was done; `dynamo` puts these together.
"""

from qegraph.compiling.dynamo import backend as backend
from qegraph.compiling.packages import package as package
from qegraph.compiling.reports import compiled_reports as compiled_reports

__all__ = ["backend", "compiled_reports", "package"]
