"""The notebooks run from top to bottom, in time, without a warning or an output kept; the guide's rules are proved,
fire, and are measured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import full_range

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 240
"""For one cell, on a machine that does other things too."""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> Iterator[Any]:
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def said(cell: Any, stream: str) -> str:
    """What a cell wrote to "stdout" or "stderr"."""
    return "".join(each.text for each in cell.outputs if each.output_type == "stream" and each.name == stream)


def execute(path: Path) -> Any:
    """The notebook with its outputs, from a kernel that sees this checkout."""
    notebook = read(path)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "QEGRAPH_NOTEBOOK_SIZE": os.environ.get("QEGRAPH_NOTEBOOK_SIZE", "small"),
    }
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3").execute(env=environment)
    return notebook


def ran(name: str) -> str:
    """Everything the notebook wrote, and the text its cells ended in. Nothing may be said on stderr, and its own check
    at the end has to hold.
    """
    cells = list(code(execute(ROOT / "notebooks" / f"{name}.ipynb")))
    assert said(cells[-1], "stdout") == "all of it holds\n"
    assert "".join(said(cell, "stderr") for cell in cells) == ""
    values = [each.get("data", {}).get("text/plain", "") for cell in cells for each in cell.outputs]
    return "\n".join([*(said(cell, "stdout") for cell in cells), *values])


def test_there_are_four() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["1-", "2-", "3-", "4-"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_that_was_run_is_kept(path: Path) -> None:
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(read(path)))
    assert path.stat().st_size < 40_000
    nbformat.validate(read(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_ends_in_a_check_of_what_it_claims(path: Path) -> None:
    *_, text, last = read(path).cells
    assert text.source.endswith("What this notebook claims, checked:")
    assert last.source.count("assert ") >= 4


@full_range
def test_the_first_answers_its_question() -> None:
    shown = ran("1-explore")
    assert "stages.2.body.1.0 adds the result of stages.2.shortcut.0, then applies relu" in shown
    assert "add__2 is fused into qconv2d_pointwise_binary_2 by residual, post-op" in shown
    assert re.search(r"best -> sum alone: \d+\.\d -> \d+\.\d µs by cost, \d+ -> \d+ µs measured", shown)


@full_range
def test_the_guide_goes_from_new_to_faster() -> None:
    """Both rules of the guide, by what a user sees: written, proved, refuted without a guard, fired, measured, kept."""
    shown = ran("2-your-own-rule")
    for name in ("tanh-of-sigmoid", "codes-flip"):
        assert re.search(rf"next: qegraph rules check {name} --rules \S+\.py", shown)
        assert re.search(rf"{name}: \d{{3}} instances: \d+ exact", shown)
    assert shown.count("1 rules checked: no findings") == 3 and shown.count("stamped: ") == 2
    assert re.search(r"tanh-of-any-sigmoid: .*REFUTED", shown) and re.search(r"codes-flip-anyway: .*REFUTED", shown)
    assert float(found(r"\nlargest difference ([\d.e-]+)", shown)) > 0, "the counterexample ran"
    assert "sigmoid (sigmoid) is fused into qlinear_pointwise_default by tanh-of-sigmoid" in shown
    assert float(found(r"ms: ([\d.]+) times as fast", shown)) > 0
    assert int(found(r"-> (\d+) calls\n", shown)) < int(found(r"(\d+) -> \d+ calls\n", shown))
    assert "1/1 matches kept" in shown and float(found(r"matches kept\s*│\s*([\d.]+)", shown)) > 0
    assert "proved " in shown and "the factor must be 2.0" in shown


@full_range
def test_the_third_plots_what_costs_are_worth() -> None:
    shown = ran("3-what-the-costs-believe")
    assert float(found(r"rank correlation of estimated costs and times: ([\d.]+)", shown)) > 0
    assert len(re.findall(r"\d+: int8 [\d.]+ times as fast by cost, [\d.]+ measured; becomes ", shown)) == 8
    assert shown.count("<Figure size") == 2


def test_the_fourth_compares_all_routes() -> None:
    shown = ran("4-side-by-side")
    for route in ("torchao", "inductor", "qegraph", "qegraph+compile"):
        assert re.search(rf"^{re.escape(route)} +[\d.]+ ms$", shown, re.MULTILINE)
        assert re.search(rf"│ {re.escape(route)} +│ +\d", shown)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} isn't in\n{text}"
    return match[1]
