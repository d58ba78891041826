"""`explain` in every format, and what `TORCH_LOGS` shows: complete, well-formed, and only what is there."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from typing import Any

import builders as b
import pytest
import torch
from torch import fx, nn

import qegraph
from qegraph import logs
from qegraph.progress import progress
from qegraph.report import Report
from qegraph.view.explain import FORMATS
from qegraph.view.record import from_json


class Small(nn.Module):
    """Two int8 linears, one with a post-op, and a product of activations that has no int8 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = b.Linear(16, 32), b.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = b.fq(torch.relu(self.up(b.fq(x, b.IN))), b.OUT)
        y = b.fq(self.down(hidden), b.IN)
        return y @ y.transpose(0, 1)


@cache
def small() -> tuple[fx.GraphModule, fx.GraphModule]:
    torch.manual_seed(0)
    x = torch.randn(4, 16)
    gm = b.build(Small(), [x], strict=False)
    return gm, b.checked(gm, [x])


def report() -> Report:
    return qegraph.explain(small()[1])


@b.full_range
def test_text_says_what_stayed_and_tabulates_the_rest() -> None:
    text = qegraph.explain(small()[1], format="text")
    assert text == str(report())
    assert text.startswith("3 linear: 2 int8 (1 with fused post-op); left: 1 quantize, 1 dequantize\n")
    assert "  stays float: matmul (linear): the weight must be a constant" in text
    assert "  quantize_per_tensor is kept: stores x, an input; no rule gives it another form\n" in text
    assert re.search(r"  dequantize_per_tensor_\d is kept: .*linear_default reads floats", text)
    *_, header, up, down, product = text.splitlines()
    assert header.split() == ["source", "kind", "kernel", "post-op", "result", "µs", "share", "rules"]
    assert re.fullmatch(
        r"up \(linear\) +linear +int8 +relu +uint8 4x32 +[\d.]+ +[\d.]+% +gemm-int8, post-op, requantize", up
    )
    assert re.fullmatch(r"down \(linear_1\) +linear +int8 +uint8 4x16 +[\d.]+ +[\d.]+% +gemm-int8, requantize", down)
    assert re.match(r"matmul +linear +float: the weight .* +float32 4x4 ", product)


def test_text_is_the_same_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    text = str(report())
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(report()) == text


@b.full_range
def test_tree_puts_every_call_under_what_took_it_in() -> None:
    gm, fast = small()
    lines = qegraph.explain(fast, format="tree").splitlines()
    assert lines[0] == report().summary
    heads = [line.partition(":")[0] for line in lines[1:] if not line.startswith(("├", "└"))]
    assert heads == [each.name for each in report().after]
    up = next(at for at, line in enumerate(lines) if line.startswith("qlinear_pointwise_default: linear + relu"))
    taken = [line[3:].split()[0] for line in lines[up + 1 : up + 6]]
    assert set(taken) >= {"dequantize_per_channel", "dequantize_per_tensor", "linear", "relu", "quantize_per_tensor_1"}
    assert "├─ linear (linear)  [gemm-int8, post-op]" in lines[up + 1 : up + 6]
    calls = [node.name for node in gm.graph.nodes if node.op.startswith("call_")]
    assert set(calls) <= {line[3:].split()[0] for line in lines if line.startswith(("├", "└"))}


def test_json_is_the_report() -> None:
    text = qegraph.explain(small()[1], format="json")
    assert from_json(text) == report()
    assert json.loads(text)["summary"] == report().summary


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "qegraph-report-1"}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(qegraph.QegraphError, match="expected a report as explain"):
        from_json(text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pydot's parser
def test_dot_has_every_node_and_a_box_for_every_group() -> None:
    pydot = pytest.importorskip("pydot")
    (graph,) = pydot.graph_from_dot_data(qegraph.explain(small()[1], format="dot"))
    boxes = graph.get_subgraphs()
    names = {node.get_name().strip('"') for part in (graph, *boxes) for node in part.get_nodes()}
    assert {each.name for each in report().before} == names - {"node", "edge"}
    assert len(graph.get_edges()) == sum(len(each.inputs) for each in report().before)
    narrow = ["linear", "linear + hardtanh", "linear + hardtanh"]  # without VNNI kernels clamp to codes 0..127
    assert sorted(box.get_label().partition("\\n")[0].strip('"') for box in boxes) == (
        ["linear", "linear", "linear + relu"] if b.READS_INT8 else narrow
    )


class _Checker(HTMLParser):
    """Tags that are opened and closed in order, and everything that could name another place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("link", "img", "object", "embed", "base")
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def well_formed(page: str) -> str:
    """The text of a page that is well-formed and names no other."""
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    return "".join(checker.text)


def cell(item: Any) -> str:
    """What a notebook shows of a cell that ends in `item`."""
    return item._repr_html_()


def test_html_is_one_page_that_fetches_nothing() -> None:
    page = qegraph.explain(small()[1], format="html")
    text = well_formed(page)
    assert "default-src 'none'" in page
    assert report().summary in text and "up (linear)" in text
    data = json.loads(re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)[0])
    assert [node[0] for node in data["before"]["nodes"]] == [each.name for each in report().before]
    assert [node[0] for node in data["after"]["nodes"]] == [each.name for each in report().after]


@b.full_range
def test_a_cell_that_ends_in_the_report_shows_it() -> None:
    text = well_formed(cell(report()))
    assert report().summary in text and "gemm-int8, post-op, requantize" in text


def test_a_cell_that_ends_in_the_page_shows_it_in_a_frame() -> None:
    page = qegraph.explain(small()[1], format="html")
    assert cell(page).startswith("<iframe srcdoc=") and "<script" not in cell(page)
    assert len(repr(page)) < 40, "a notebook keeps this beside the page"
    assert repr(report()) == str(report())


def test_names_are_text_whatever_is_in_them() -> None:
    odd = Report(unchanged='</script><b onload="x">&')
    assert "<b onload" not in cell(odd) and "<b onload" not in FORMATS["html"](odd)
    assert all(FORMATS[name](odd) for name in FORMATS)


def test_a_graph_not_optimised_yet_is_optimised_first() -> None:
    gm, _ = small()
    code = gm.code
    assert qegraph.explain(gm).contractions
    assert gm.code == code and "qegraph" not in gm.meta


def test_what_cannot_be_explained() -> None:
    with pytest.raises(qegraph.QegraphError, match=r"expected a result of qegraph.optimize.*got Linear"):
        qegraph.explain(nn.Linear(2, 2))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"'tree'.*got 'pdf'"):
        qegraph.explain(small()[1], format="pdf")  # type: ignore[call-overload]


@b.full_range
def test_logs_name_every_rule_and_its_nodes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "qegraph"):
        logs.log_stages({"saturate": 0.25})
        logs.log_rules(report())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "saturate 250.0 ms"
    assert any(re.fullmatch(r"post-op: linear, relu -> qlinear_pointwise_default", line) for line in lines)
    assert {line.partition(":")[0] for line in lines[1:]} == {rule for f in report().fate.values() for rule in f.rules}


_LOGGED = """
import warnings; warnings.simplefilter("ignore")
import qegraph; from qegraph import zoo
qegraph.optimize(zoo.quantize(*zoo.load("resnet18", "small")), cost="estimated")
"""


@b.full_range
@pytest.mark.parametrize(("setting", "debug"), [("qegraph", False), ("+qegraph", True)])
def test_torch_logs_switches_them_on(setting: str, debug: bool) -> None:
    environment = {**os.environ, "TORCH_LOGS": setting}
    run = subprocess.run(
        [sys.executable, "-c", _LOGGED], capture_output=True, text=True, env=environment, check=True, timeout=300
    )
    assert re.search(r"saturate [\d.]+ ms", run.stderr)
    assert bool(re.search(r"gemm-int8: .*conv2d.* -> qconv", run.stderr)) == debug


def test_progress_is_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 2) as tell:
        tell("first")
        tell.done(1)
    with progress("library", 2, lines=False) as tell:
        tell("second")
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"\[ *[\d.]+ s\] first\n", err)


def test_progress_is_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("work", 2) as tell:
        tell("first")
        tell.done(1)
    assert "1/2" in capsys.readouterr().err
