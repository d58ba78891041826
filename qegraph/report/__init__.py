"""What became of a graph: `compose` makes the account of one optimised graph, `Report`."""

from qegraph.report.account import Account as Account
from qegraph.report.compose import compose as compose
from qegraph.report.contractions import float_gemms as float_gemms
from qegraph.report.contractions import reads_codes as reads_codes
from qegraph.report.record import Contraction as Contraction
from qegraph.report.record import Drawn as Drawn
from qegraph.report.record import Fate as Fate
from qegraph.report.record import Report as Report
from qegraph.report.record import Role as Role
