"""The shape of the code: imports point one way, egglog and torch's internals stand behind one module each."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import qegraph
from qegraph.load_rules import shipped

PACKAGE = Path(qegraph.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"errors", "_torch", "_dynamo", "_inductor", "program", "snapshot"},
    {
        "torch_names",
        "copies",
        "borders",
        "kernels",
        "cost",
        "machine",
        "files",
        "timing",
        "progress",
        "quiet",
        "undisturbed",
        "lang",
        "packing",
        "prepack",
        "memory",
        "extract",
        "zoo",
    },
    {"native"},
    {"facts", "engine", "compile_rules", "load_rules", "rule_files", "refusals", "capture", "inputs"},
    {"ops"},
    {"encode", "saturate", "ready", "schedule"},
    {"evidence", "freeze"},
    {"nearmiss"},
    {"emit"},
    {"report", "validate", "logs", "prove"},
    {"alarms"},
    {"search"},
    {"verify"},
    {"tuning"},
    {"pricing"},
    {"settled"},
    {"pipeline"},
    {"dump", "compiling"},
    {"view"},
    {"saving"},
    {"whynot"},
    {"__init__"},
    {"bench"},
    {"coverage"},
    {"decisions", "fuzz", "workshop"},
    {"cli"},
)
"""A module imports from its own layer or an earlier one. Names are first components below `qegraph`."""


def layer(module: str) -> int:
    first = module.split(".")[0]
    group = "capture" if first.startswith(("capture", "functionalize")) else "emit" if first == "emit_sizes" else first
    return next(i for i, names in enumerate(LAYERS) if group in names)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("qegraph."):
            found.add(node.module.removeprefix("qegraph."))
        elif isinstance(node, ast.ImportFrom) and node.module == "qegraph":
            found |= {each.name for each in node.names if (PACKAGE / f"{each.name}.py").exists()}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = layer(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    for module in imports(path):
        assert layer(module) <= own, f"{path.name} imports qegraph.{module}, which is a later layer"


def test_only_the_engine_knows_egglog() -> None:
    assert [path.name for path in FILES if "import egglog" in path.read_text()] == ["engine.py"]


def test_files_are_short() -> None:
    lengths = [len(path.read_text().splitlines()) for path in FILES]
    assert max(lengths) <= 400
    assert statistics.median(lengths) <= 150


def test_rules_are_short_and_named() -> None:
    rules = shipped()
    assert len({rule.name for rule in rules}) == len(rules) <= 91
    for rule in rules:
        assert rule.law and "\n" not in rule.law, rule.name
