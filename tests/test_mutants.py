"""Unsound variants of our rules are refuted, every one, by the default number of instances and for the right reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import READS_INT8, full_range
from mutants import CRASHES, MUTANTS, Mutant

from qegraph.load_rules import shipped
from qegraph.prove import prove

ALL = [mutant for kind in MUTANTS.values() for mutant in kind]
ROOT = Path(__file__).resolve().parent.parent

SCRIPTS = ("post-op-dropped", "flip-moves-by-127", "windows-in-the-padding", "bias-cut-at-start", "ranges-apart")
"""Those whose script is run: of a post-op, of parameters, of memory nobody wrote, of constants, of floats alone."""


def named(name: str) -> Mutant:
    return next(each for each in ALL if each.rule.name == name)


def test_there_are_many() -> None:
    assert len(ALL) >= 70
    assert len({mutant.of for mutant in ALL}) >= 35
    names = [each.rule.name for each in ALL] + [rule.name for rule in shipped()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("mutant", ALL, ids=[each.rule.name for each in ALL])
def test_is_refuted(mutant: Mutant) -> None:
    (proof,) = prove([mutant.rule], stop=True)
    if not READS_INT8 and proof.outcome == "not run":
        pytest.skip(str(proof))
    assert proof.refuted, str(proof)
    assert any(re.search(mutant.reason, each) for each in proof.reasons), proof.reasons


def test_one_that_takes_its_process_down_is_refuted() -> None:
    (proof,) = prove([CRASHES.rule], jobs=2)
    assert proof.refuted
    assert re.search(CRASHES.reason, proof.reasons[0])


@full_range
def test_scripts_show_the_difference(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.py" for name in SCRIPTS]
    for path, proof in zip(paths, prove([named(name).rule for name in SCRIPTS], stop=True), strict=True):
        path.write_text(proof.script)
    run_each = f"import runpy; [runpy.run_path(path) for path in {list(map(str, paths))}]"
    run = subprocess.run(
        [sys.executable, "-c", run_each], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    differences = [float(each) for each in re.findall(r"largest difference (\S+)", run.stdout)]
    assert len(differences) == len(SCRIPTS) and min(differences) > 0, run.stdout
