"""`qegraph rules coverage` and `ablate`: what rules do in models, and what one of them is worth."""

from __future__ import annotations

from math import inf

import pytest
import torch
from builders import OUT, Linear, dq, full_range, net, q
from torch.nn import functional as F

from qegraph.cli import main
from qegraph.load_rules import by_name, select
from qegraph.search import search
from qegraph.workshop.ablate import ablate, ablation_table
from qegraph.workshop.firing import Coverage, Firing, as_text, coverage, firings, never
from qegraph.workshop.subjects import Subject


def subject(name: str = "one linear") -> Subject:
    """Large enough for int8 to pay: a linear with silu, whose codes are read by another one."""
    x = torch.randint(0, 255, (256, 256), dtype=torch.uint8)
    parts = [Linear(256, 256), Linear(256, 256)]
    graph = net(lambda m, n, x: n(dq(q(F.silu(m(dq(x))), OUT), OUT)), parts, [x])
    return Subject(name, graph, (x,))


@full_range
def test_what_is_kept_of_what_matches() -> None:
    (found,) = coverage([subject()], select(["default"]))
    assert found.model == "one linear" and list(found.firings) == [each.name for each in select(["default"])]
    assert found.firings["gemm-int8"] == Firing(2, 2)
    assert found.firings["post-op"] == Firing(1, 1)
    assert found.firings["cast-to-own-dtype"] == Firing(2, 1)  # no value of the graph is the other one
    assert found.firings["gelu-of-erf"] == Firing()
    assert "gelu-of-erf" in never([found]) and "post-op" not in never([found])


@full_range
def test_what_matches_and_is_not_kept() -> None:
    found = search(subject().program())
    floats = [inf if node.op == "QGemm" else 1.0 for node in found.snapshot.nodes]
    kernels = [inf if node.op == "Gemm" else 1.0 for node in found.snapshot.nodes]
    for costs, kept in ((floats, 0), (kernels, 1)):
        done = firings(found, found.select(costs))
        assert done["gemm-int8"] == Firing(2, 2 * kept) and done["post-op"] == Firing(1, kept)


def test_the_matrix() -> None:
    one = Coverage("a", {"x": Firing(2, 1), "y": Firing()})
    two = Coverage("b", {"x": Firing(), "y": Firing()})
    assert [line.split() for line in as_text([one, two])] == [["1", "2"], ["x", "1/2", "-"], ["1", "a,", "2", "b"]]
    assert never([one, two]) == ["y"]


@full_range
def test_one_rule_with_and_without() -> None:
    found = ablate(by_name("post-op"), select(["default"]), subject(), rounds=3)
    assert found.firing == Firing(1, 1)
    assert found.with_rule.calls < found.without.calls and found.with_rule.cost < found.without.cost
    assert found.with_rule.enodes > found.without.enodes
    assert not found.with_rule.limit and len(found.without.timing.samples) == 3
    assert found.speedup == pytest.approx(found.without.timing.median / found.with_rule.timing.median, rel=0.9)
    table = ablation_table(found)
    assert table.rows[-1] == ("times faster, 1/1 matches kept", f"{found.speedup:.3f}", "1")


def test_a_rule_that_is_off_is_put_on() -> None:
    off = by_name("requantize-float8")
    found = ablate(off, select(["default"]), subject(), rounds=1)
    assert found.firing == Firing() and found.with_rule.calls == found.without.calls


def test_by_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "coverage", "bert_base"]) == 0
    shown = capsys.readouterr().out
    assert "gemm-int8" in shown and "rules match in none of these models" in shown
    assert main(["rules", "ablate", "gemm-int8", "--model", "bert_base", "--size", "small", "--rounds", "1"]) == 0
    assert "bert_base: gemm-int8" in capsys.readouterr().out
    assert main(["rules", "ablate", "gemm-int9", "--model", "bert_base"]) == 2
    assert "there is no rule gemm-int9; did you mean gemm-int8?" in capsys.readouterr().err
    assert main(["rules", "coverage", "bert"]) == 2
