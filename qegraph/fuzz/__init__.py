"""Random quantized programs against what they compute: `qegraph fuzz`."""

from qegraph.fuzz.check import Finding as Finding
from qegraph.fuzz.check import Outcome as Outcome
from qegraph.fuzz.check import Settings as Settings
from qegraph.fuzz.check import check as check
from qegraph.fuzz.check import shows as shows
from qegraph.fuzz.draft import Program as Program
from qegraph.fuzz.grow import KINDS as KINDS
from qegraph.fuzz.grow import grow as grow
from qegraph.fuzz.respell import Spelling as Spelling
from qegraph.fuzz.script import script as script
from qegraph.fuzz.shrink import shrunk as shrunk
