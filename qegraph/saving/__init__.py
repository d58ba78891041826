"""Optimised modules as files of data only: `save` and `load`."""

from qegraph.saving.file import load as load
from qegraph.saving.file import save as save
