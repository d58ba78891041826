"""Choices whose better answer depends on sizes: the cost model makes both, and the clock agrees."""

from __future__ import annotations

import pytest
from builders import full_range

from qegraph import cli
from qegraph.bench import Settings
from qegraph.decisions import DECISIONS, Decision, Verdict, decide


def verdicts(decision: Decision, rounds: int) -> list[Verdict]:
    return list(decide(Settings(rounds=rounds), lambda _: None, decisions=[decision]))


@full_range
@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.name)
def test_each_form_is_chosen_at_one_of_the_sizes(decision: Decision) -> None:
    """And is really another program: its cost differs."""
    made = verdicts(decision, rounds=1)
    assert {each.chosen for each in made} == {form.name for form in decision.forms}
    assert all(abs(one - other) > 0.01 * max(one, other) for one, other in (each.costs for each in made))


@full_range
@pytest.mark.zoo
@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.name)
def test_the_clock_agrees(decision: Decision) -> None:
    """The chosen form is not slower than the other, up to the noise of a shared machine."""
    for each in verdicts(decision, rounds=21):
        slower = each.ratio if each.chosen == decision.forms[0].name else 1.0 / each.ratio
        assert slower < 1.05, f"{each.sizes}: {each.chosen} was chosen and took {slower:.2f} times the other's time"


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qegraph.decisions.DECISIONS", DECISIONS[:1])
    assert cli.main(["decisions", "--rounds", "1"]) in (0, 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Choices that depend on sizes" in shown and "chosen" in shown
