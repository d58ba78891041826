"""`optimize(..., verify=...)`: the result is run beside the given graph, and refused where it breaks the contract."""

from .calls import Calls as Calls
from .calls import Verify as Verify
from .calls import calls_of as calls_of
from .run import Verdict as Verdict
from .run import verified as verified
