"""qegraph: an e-graph engine for PT2E-quantized graphs and oneDNN int8 kernels."""

from qegraph.compiling import backend as backend
from qegraph.compiling import compiled_reports as compiled_reports
from qegraph.compiling import package as package
from qegraph.errors import CaptureError as CaptureError
from qegraph.errors import LoadError as LoadError
from qegraph.errors import QegraphError as QegraphError
from qegraph.errors import RequirementError as RequirementError
from qegraph.errors import RuleError as RuleError
from qegraph.errors import SaveError as SaveError
from qegraph.errors import Unsupported as Unsupported
from qegraph.load_rules import shipped as shipped_rules
from qegraph.pipeline import optimize as optimize
from qegraph.report import Report as Report
from qegraph.saturate import Budget as Budget
from qegraph.saving import load as load
from qegraph.saving import save as save
from qegraph.view import Session as Session
from qegraph.view import explain as explain
from qegraph.view import explore as explore
from qegraph.whynot import WhyNot as WhyNot
from qegraph.whynot import why_not as why_not

__all__ = [
    "Budget",
    "CaptureError",
    "LoadError",
    "QegraphError",
    "Report",
    "RequirementError",
    "RuleError",
    "SaveError",
    "Session",
    "Unsupported",
    "WhyNot",
    "backend",
    "compiled_reports",
    "explain",
    "explore",
    "load",
    "optimize",
    "package",
    "save",
    "shipped_rules",
    "why_not",
]
