"""`qegraph rules`: scaffolds that work, catalogues that are complete, findings on rules that deserve them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qegraph.cli import main
from qegraph.errors import RuleError
from qegraph.lang import (
    Number,
    Tensor,
    UnaryFn,
    add,
    flip,
    has_dtype,
    is_floating,
    mul,
    named,
    qattention,
    relu,
    rewrite,
    rule,
    scalar,
    unary,
)
from qegraph.lang.rule import Rewrite, Rule
from qegraph.load_rules import select, shipped
from qegraph.workshop import check, growth
from qegraph.workshop.catalogue import as_markdown, as_text, catalogue
from qegraph.workshop.duplicates import duplicates
from qegraph.workshop.reachable import producible, unreachable
from qegraph.workshop.scaffold import new
from qegraph.workshop.subjects import CHAINS

ROOT = Path(__file__).resolve().parent.parent


# -- new ---------------------------------------------------------------------------------------------------------------


def test_a_new_rule_works_as_it_is(tmp_path: Path) -> None:
    path, test = new("times-one", tmp_path / "mine")
    assert [each.name for each in select([path])] == ["times-one"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout + run.stderr


def test_a_new_rule_is_written_as_the_rest_is(tmp_path: Path) -> None:
    new("a-rule-with-a-rather-long-name", tmp_path)
    settings = ["--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    for arguments in (["check"], ["format", "--check"]):
        run = subprocess.run([sys.executable, "-m", "ruff", *arguments, *settings], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


def test_in_a_checkout_it_goes_where_the_rest_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qegraph.workshop.scaffold.shipped_folder", lambda: tmp_path / "rules")
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path / "tests")
    assert new("times-one") == (tmp_path / "rules/times_one.py", tmp_path / "tests/test_times_one.py")
    assert '.parent.parent / "rules/times_one.py"' in (tmp_path / "tests/test_times_one.py").read_text()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("TimesOne", r"lower-case words with dashes, got 'TimesOne'; e\.g\. timesone"),
        ("times_one", r"got 'times_one'; e\.g\. times-one"),
        ("gemm-int8", r"there is a rule gemm-int8 at .*int8\.py:\d+; choose another name"),
        ("written", r"written\.py exists; choose another name, or another folder with --in"),
    ],
)
def test_names_and_files_that_are_taken(name: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "written.py").write_text("mine\n")
    with pytest.raises(RuleError, match=wanted):
        new(name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["written.py"]


# -- list --------------------------------------------------------------------------------------------------------------


def test_every_rule_is_listed() -> None:
    entries = catalogue(shipped())
    assert [entry.name for entry in entries] == [each.name for each in shipped()]
    trusts = {entry.name: entry.trust for entry in entries}
    assert trusts["gemm-int8"] == "exact" and trusts["cast-of-half"] == "one-way"
    assert trusts["requantize-float8"] == "precision-changing"
    text, table = "\n".join(as_text(entries)), "\n".join(as_markdown(entries))
    for each, entry in zip(shipped(), entries, strict=True):
        assert each.law in text and entry.where in text and f"| {each.name} |" in table
        assert all(guard.name in entry.guards for guard in each.guards)


def test_a_law_with_a_bar_stays_one_cell() -> None:
    @rule
    def barred(x: Tensor) -> Rewrite:
        """|x| + x = x | x"""
        return rewrite(add(x, x)).to(x)

    row = list(as_markdown(catalogue([barred])))[-2]
    assert row.count(" | ") == 5 and r"\|x\| + x = x \| x" in row


def test_list_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = new("times-one", tmp_path)
    assert main(["rules", "list", "--rules", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"times-one  exact  {path}:") and "if is-floating" in shown


# -- check -------------------------------------------------------------------------------------------------------------


@rule
def doubled(x: Tensor, f: UnaryFn) -> Rewrite:
    """f(x) + 2 f(x) = f(x) 3"""
    return rewrite(add(unary(f, x), mul(unary(f, x), scalar(2.0)))).to(mul(unary(f, x), scalar(3.0)))


@rule
def doubled_again(y: Tensor, g: UnaryFn) -> Rewrite:
    """2 g(y) + g(y) = g(y) 3, with its operands the other way round"""
    return rewrite(add(mul(unary(g, y), scalar(2.0)), unary(g, y))).to(mul(unary(g, y), scalar(3.0)))


@rule
def doubled_floats(z: Tensor, g: UnaryFn) -> Rewrite:
    """g(z) + 2 g(z) = g(z) 3, for floats"""
    return (
        rewrite(add(unary(g, z), mul(unary(g, z), scalar(2.0)))).to(mul(unary(g, z), scalar(3.0))).when(is_floating(z))
    )


@rule
def of_two(x: Tensor, y: Tensor) -> Rewrite:
    """x + y = y x"""
    return rewrite(add(x, y)).to(mul(y, x)).when(has_dtype(x, "float32"))


@rule
def of_two_others(a: Tensor, b: Tensor) -> Rewrite:
    """b + a = b a under a guard on the other one"""
    return rewrite(add(b, a)).to(mul(a, b)).when(has_dtype(a, "float32"))


def test_duplicates_whatever_the_variables_are_called() -> None:
    (found,) = duplicates([doubled_again], [doubled, of_two, doubled_again])
    assert found.rule is doubled_again and "doubled at" in found.text and "one of the two is enough" in found.text
    (found,) = duplicates([doubled_floats], [doubled, doubled_floats])
    assert "asks for less; it holds wherever this one does" in found.text
    (found,) = duplicates([doubled], [doubled, doubled_floats])
    assert "asks for more; this one holds wherever that one does" in found.text
    (found,) = duplicates([of_two_others], [of_two])
    assert "under other guards" in found.text or "one of the two is enough" in found.text
    assert list(duplicates([of_two], [doubled, of_two])) == []


@rule
def of_attention(x: Tensor) -> Rewrite:
    """flip(flip(x)) + x = x"""
    return rewrite(add(flip(flip(x)), x)).to(x)


def test_words_that_nothing_makes() -> None:
    (found,) = unreachable([of_attention], [of_attention, doubled])
    assert found.check == "unreachable" and "no operator is read as flip" in found.text
    assert list(unreachable([of_attention], shipped())) == []
    assert "QAttention" in producible(shipped()) and "QAttention" not in producible([doubled])
    assert qattention.__name__ == "qattention"


def test_the_shipped_rules_have_no_findings() -> None:
    assert check.static(shipped(), shipped()) == []


@rule
def without_end(x: Tensor) -> Rewrite:
    """relu(x) = relu(x) + 0, and of that again"""
    return rewrite(unary(relu(), x)).to(unary(relu(), unary(relu(), add(x, scalar(0.0)))))


@rule
def through(x: Tensor, f: UnaryFn, c: Tensor) -> Rewrite:
    """f(x) c = f(x c) : wrong, and it moves every factor through every function"""
    return rewrite(mul(unary(f, x), c)).to(unary(f, mul(x, c)))


@rule
def swapped(x: Tensor, a: Number, b: Number) -> Rewrite:
    """(x a) b = (x b) a"""
    return rewrite(mul(mul(x, scalar(a)), scalar(b))).to(mul(mul(x, scalar(b)), scalar(a)))


@rule
def harmless(x: Tensor) -> Rewrite:
    """x + sin y = x : matches nowhere"""
    return rewrite(add(x, unary(named("sin"), x))).to(x)


@pytest.fixture(scope="module")
def chains() -> growth.Saturated:
    """Chains alone: no model needs to be quantized."""
    lengths = (growth.LENGTH, 2 * growth.LENGTH)
    subjects = [chain.subject(length) for chain in CHAINS for length in lengths]
    return growth.Saturated([(each.name, each.program()) for each in subjects])


@pytest.mark.parametrize(
    ("bad", "others", "wanted"),
    [(without_end, [], "it doesn't end: "), (through, [swapped], "elementwise x 12 stopped at")],
)
def test_what_grows_too_much(
    bad: Rule, others: list[Rule], wanted: str, chains: growth.Saturated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "MODELS", ())
    found = growth.finding(bad, list(growth.growth(bad, select(["default", *others]), chains)))
    assert found is not None and found.check == "growth" and wanted in found.text, found


def test_what_is_too_much() -> None:
    def size(nodes: int) -> growth.Size:
        return growth.Size(nodes, "", frozenset())

    assert growth.Growth("a", size(399), size(100)).problem() == ""
    assert growth.Growth("a", size(450), size(100)).problem() == "a grows from 100 to 450 e-nodes, 4.5 times"
    steep = growth.Growth("a x 12", size(200), size(100), 1.9, 1.0)
    assert steep.problem() == "a x 12 grows like length^1.9, without it like length^1.0"
    assert growth.Growth("a x 12", size(200), size(100), 1.9, 2.0).problem() == ""


def test_what_matches_nowhere_grows_nothing(chains: growth.Saturated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MODELS", ())
    grown = list(growth.growth(harmless, select(["default"]), chains))
    assert growth.finding(harmless, grown) is None
    assert growth.figure(harmless, grown) == "matches in none of the 5 models and chains growth is measured on"


def test_growth_of_a_shipped_rule(chains: growth.Saturated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MODELS", ())
    rules = select(["default"])
    residual = next(each for each in rules if each.name == "residual")
    grown = {each.subject: each for each in growth.growth(residual, rules, chains)}
    blocks = grown["residuals x 12"]
    assert blocks.ratio > 1.2 and blocks.power is not None and blocks.power < 1.1 and not blocks.problem()
    assert growth.figure(residual, list(grown.values())).startswith("ends; e-nodes x ")


def test_check_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = new("times-one", tmp_path)
    broken = tmp_path / "broken.py"
    broken.write_text("from qegraph.lang import dequantise\n")
    arguments = ["rules", "check", "--no-growth", "--no-proof", "--rules"]
    assert main([*arguments, str(path)]) == 0
    assert capsys.readouterr().out == "1 rules checked: no findings\n"
    assert main([*arguments, str(broken), str(path)]) == 1
    shown = capsys.readouterr().out
    assert f"FOUND rule file {broken}:1: the rule language has no dequantise; did you mean dequantize?" in shown
    assert shown.endswith("1 rules checked: 1 finding\n")
    assert main(["rules", "check", "gemm-int9", "--no-growth", "--no-proof"]) == 2
    assert "there is no rule gemm-int9; did you mean gemm-int8?" in capsys.readouterr().err
