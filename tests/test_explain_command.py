"""`qegraph explain`: every format, to the terminal or a file, and what can't be done said in words."""

from __future__ import annotations

import re
from pathlib import Path

import builders as b
import pytest
import torch
from test_explain import Small, well_formed

import qegraph
from qegraph.cli import main
from qegraph.view.explain import FORMATS
from qegraph.view.record import from_json


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported program as a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "small.pt2"
    gm = b.build(Small(), [torch.randn(4, 16)], strict=False)
    torch.export.save(torch.export.export(gm, (torch.randn(4, 16),)), path)
    return path


def test_a_zoo_model_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "resnet18", "--size", "small"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("8 conv: ") and out.count("\n") > 10 and not out.endswith("\n\n")
    assert err == ""


@pytest.mark.parametrize("wanted", FORMATS)
def test_each_format_is_written_to_a_file(
    wanted: str, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["explain", str(saved), "--format", wanted, "-o", str(out)]) == 0
    assert capsys.readouterr().out == ""
    text = out.read_text(encoding="utf-8")
    if wanted == "json":
        assert from_json(text).contractions
    elif wanted == "html":
        well_formed(text)
    assert "linear" in text


def test_text_is_the_default(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(saved)]) == 0
    shown = capsys.readouterr().out
    report = qegraph.explain(torch.export.load(saved))
    assert shown.splitlines()[0] == report.summary
    assert shown.splitlines()[-1].split() == str(report).splitlines()[-1].split()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["resnet19"], "resnet18"),
        (["nowhere.pt2"], r"nowhere\.pt2: expected an exported program"),
        (["resnet18", "-o", "no/folder/x.html"], r"there is no folder no/folder; create it or choose another"),
    ],
)
def test_what_cannot_be_explained(arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert re.search(wanted, err), err


def test_a_file_that_cannot_be_written(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(saved), "-o", str(tmp_path)]) == 2
    assert "can't be written" in capsys.readouterr().err
