"""The pages in a real browser: they render, react, explain, and load nothing. `CHROMIUM` names another executable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_explain import cell

import qegraph
from qegraph import Session, zoo

pytestmark = pytest.mark.browser

SCHEMES = ("light", "dark")


@dataclass
class Tab:
    page: Any
    said: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])


@cache
def session() -> Session:
    model, inputs = zoo.load("resnet50", "full")
    return qegraph.explore(zoo.quantize(model, inputs, calibration_batches=1))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def opened(chromium: Any, html: str, scheme: str) -> Tab:
    """A page in a fresh tab, and what it says on the console and asks of the network."""
    page = chromium.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 800}).new_page()
    tab = Tab(page)
    page.on("console", lambda message: tab.said.append(message.text))
    page.on("pageerror", lambda error: tab.said.append(str(error)))
    page.on("request", lambda request: tab.asked.append(request.url))
    page.set_content(html)
    return tab


def brightness(tab: Tab) -> int:
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_view_expands_on_click_and_explains_on_hover(chromium: Any, scheme: str, tmp_path: Path) -> None:
    tab = opened(chromium, session().view("stages.0.shortcut.0"), scheme)
    page = tab.page
    before = page.locator(".eclass").count()
    assert before > 2 and page.locator(".enode.on").count() >= 2
    form = page.locator(".eclass.focus .enode", has_text="QGemm").first
    form.hover()
    told = page.locator("#told").inner_text()
    assert "gemm-int8: " in told and " µs" in told
    assert page.locator("path.lit").count() > 0
    page.locator(".eclass", has_text="quantize_per_tensor_default_5").locator("button").click()
    assert page.locator(".eclass").count() > before
    page.locator("#all").click()
    grown = page.locator(".eclass").count()
    page.locator("#reset").click()
    assert page.locator(".eclass").count() == before < grown
    assert (brightness(tab) > 600) == (scheme == "light")
    page.screenshot(path=str(tmp_path / f"view-{scheme}.png"))
    assert tab.said == [] and tab.asked == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_explanation_draws_both_graphs(chromium: Any, scheme: str, tmp_path: Path) -> None:
    tab = opened(chromium, qegraph.explain(session().best.module, format="html"), scheme)
    page = tab.page
    page.locator("#after .box", has_text="conv + relu").first.hover()
    assert "gemm-int8, post-op, requantize" in page.locator("#told").inner_text()
    lit = page.locator("#before .same").all_inner_texts()
    assert {text.split("\n")[0] for text in lit} >= {"conv2d", "relu", "quantize_per_tensor"}
    boxes = page.locator("#before .box").count()
    first = page.locator("#before .box").first.inner_text()
    page.evaluate("document.getElementById('before').scrollTop = 1e6")
    page.wait_for_function("first => document.querySelector('#before .box').innerText !== first", arg=first)
    assert boxes < 100, "only what is in sight is there"
    page.screenshot(path=str(tmp_path / f"explain-{scheme}.png"))
    assert tab.said == [] and tab.asked == []


def test_a_frame_in_a_notebook_takes_its_theme(chromium: Any) -> None:
    shown = cell(session().view("stages.0.shortcut.0"))
    for is_light, scheme in (("true", "dark"), ("false", "light")):
        tab = opened(chromium, f'<body data-jp-theme-light="{is_light}">{shown}</body>', scheme)
        frame = tab.page.frames[-1]
        frame.wait_for_selector(".eclass")
        colour = frame.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (is_light == "true")
        assert tab.said == [] and [url for url in tab.asked if not url.startswith("about:")] == []


def test_ten_thousand_e_nodes_stay_responsive(chromium: Any) -> None:
    model, inputs = zoo.load("llama_style", "small", layers=40)
    of = qegraph.explore(zoo.quantize(model, inputs, calibration_batches=1))
    assert len(of.search.snapshot.nodes) > 5_000
    page = of.view(of.best.report.contractions[60].gemms[0])
    assert len(page) < 3_000_000
    tab = opened(chromium, page, "light")
    milliseconds = tab.page.evaluate(
        "() => { const begin = performance.now(); document.querySelector('.eclass button').click();"
        " return performance.now() - begin; }"
    )
    assert milliseconds < 200
    assert tab.said == []
