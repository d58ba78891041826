"""Operators of our own for int8 linears and convolutions, which keep the oneDNN primitive torch's make on every call.

`source` is them; `library` builds and loads it, once on a machine; `operators` is what torch and Inductor must
know of them, `shims` how compiled code calls them directly. They are an extra: without it, or without a C++ compiler,
torch's own are used.
"""

from qegraph.native.library import files as files
from qegraph.native.library import load as load
from qegraph.native.library import require as require
from qegraph.native.library import unavailable as unavailable
from qegraph.native.operators import NAMES as NAMES
from qegraph.native.operators import is_operator as is_operator
from qegraph.native.shims import call_settings as call_settings
from qegraph.native.shims import wrapper_settings as wrapper_settings

__all__ = [
    "NAMES",
    "call_settings",
    "files",
    "is_operator",
    "load",
    "require",
    "unavailable",
    "wrapper_settings",
]
