"""Proofs by sampling, their stamps, and how `qegraph rules check` shows them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import full_range

from qegraph.cli import main
from qegraph.errors import RuleError
from qegraph.kernels import adds_in_32_bits
from qegraph.lang.rule import Rule
from qegraph.load_rules import by_name, load, shipped
from qegraph.prove import prove, stamps

RULE = '''"""A rule of a test."""

from qegraph.lang import Number, Tensor, Text, is_constant, mul, per_tensor, rewrite, rule, scalar, unary, relu
from qegraph.lang.rule import Rewrite


@rule
def relu_of_relu(x: Tensor) -> Rewrite:
    """relu(relu(x)) = {right}"""
    return rewrite(unary(relu(), unary(relu(), x))).to({right})
'''


def written(folder: Path, right: str) -> tuple[Path, Rule]:
    path = folder / "mine.py"
    path.write_text(RULE.format(right=right))
    (found,) = load([path])
    return path, found


@pytest.mark.parametrize("instances", [24, pytest.param(200, marks=pytest.mark.zoo)])
def test_shipped_rules_are_proved(instances: int) -> None:
    """All but those whose kernel this machine hasn't got; rules that are off by default may leave the contract.

    Few instances here, of another seed: stamps say that what they are about was proved with 200.
    """
    proofs = list(prove(shipped(), instances, seed=1, jobs=2))
    assert [str(each) for each in proofs if each.outcome in ("refuted", "too few")] == []
    proved = [each for each in proofs if each.outcome == "proved"]
    assert len(proved) >= (80 if adds_in_32_bits() else 40) and all(each.instances >= instances for each in proved)
    assert all(each.rule.exact is False for each in proofs if each.outcome == "inexact")


def test_shipped_rules_are_stamped() -> None:
    """`qegraph rules check --stamp` makes what is missing or stale anew."""
    told = {rule.name: stamps.told(rule) for rule in shipped()}
    kept = [stamps.stamp_of(rule) for rule in shipped()]
    assert all(each is not None and (each.instances >= 200 or each.outcome == "not run") for each in kept)
    assert {name: each for name, each in told.items() if not each.startswith(("proved", "not run"))} == {}


@full_range
def test_a_counterexample_runs_on_its_own(tmp_path: Path) -> None:
    found = by_name("gemm-int8")
    unguarded = replace(found, guards=tuple(each for each in found.guards if each.name != "weight-symmetric"))
    (proof,) = prove([unguarded])
    assert proof.refuted and proof.reasons[0].startswith("off by")
    script = tmp_path / "counterexample.py"
    script.write_text(proof.script)
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("left ") and float(shown.split("largest difference ")[1]) > 0


@full_range
def test_the_same_seed_gives_the_same_proof() -> None:
    one, other, third = (next(prove([by_name("requantize")], seed=seed)) for seed in (5, 5, 6))
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0) != replace(third, seconds=0.0)


def test_rules_that_match_nothing_are_not_proved(tmp_path: Path) -> None:
    path = tmp_path / "never.py"
    never = RULE.format(right="x").replace(".to(x)", ".to(x).when(rank_is(x, 2), rank_is(x, 3))")
    path.write_text(never.replace("is_constant,", "rank_is,"))
    (proof,) = prove(load([path]))
    assert proof.outcome == "too few" and "of 1" in str(proof) and "it matches 0" in str(proof)


def test_check_shows_proofs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--instances", "40", "--jobs", "1", "--no-growth", "--rules"]
    path, _ = written(tmp_path, "unary(relu(), x)")
    assert main(["rules", "check", *arguments, str(path)]) == 0
    assert re.fullmatch(
        r"relu-of-relu: \d+ instances: \d+ exact\n1 rules checked: no findings\n", capsys.readouterr().out
    )
    path, _ = written(tmp_path, "x")
    assert main(["rules", "check", *arguments, str(path)]) == 1
    shown = capsys.readouterr().out
    assert "FOUND relu-of-relu at" in shown and "REFUTED" in shown and "    def left():" in shown


def test_stamps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, found = written(tmp_path, "unary(relu(), x)")
    assert stamps.stamp_of(found) is None and stamps.told(found) == ""
    assert main(["rules", "check", "--stamp", "--jobs", "1", "--no-growth", "--rules", str(path)]) == 0
    assert f"stamped: {tmp_path / 'proofs.json'}" in capsys.readouterr().out
    kept = stamps.stamp_of(found)
    assert kept is not None and kept.instances >= 200 and stamps.stale(found, kept) == ""
    assert stamps.told(found).startswith(f"proved {kept.date}: ")
    assert main(["rules", "list", "--rules", str(path)]) == 0
    assert f"proved {kept.date}" in capsys.readouterr().out


def test_stale_stamps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, found = written(tmp_path, "unary(relu(), x)")
    stamps.keep(prove([found], instances=8))
    _, changed = written(tmp_path, "x")
    assert stamps.told(changed).startswith("stale: the rule has changed")
    assert main(["rules", "check", "--no-proof", "--no-growth", "--rules", str(path)]) == 1
    assert "stale stamp: the rule has changed since it was proved on" in capsys.readouterr().out
    old = (tmp_path / "proofs.json").read_text()
    (tmp_path / "proofs.json").write_text(old.replace(stamps.domain(), "another"))
    assert "what rules are tried on has changed" in stamps.told(found)
    (tmp_path / "proofs.json").write_text("{")
    with pytest.raises(RuleError, match=r"proofs\.json: can't be read: .*; delete it and make it anew"):
        stamps.stamp_of(found)


def test_refuted_rules_get_no_stamp(tmp_path: Path) -> None:
    _, found = written(tmp_path, "x")
    assert stamps.keep(prove([found], instances=8)) == [] and not (tmp_path / "proofs.json").exists()
