"""The first notebook in JupyterLab, in a real browser: its tables and pages fit, in light and dark."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_browser import chromium as chromium  # a fixture
from test_notebooks import ROOT, execute

pytestmark = pytest.mark.browser
pytest.importorskip("jupyterlab")

NAME = "1-explore.ipynb"
SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the notebook in it, run and trusted, as after a user has run it."""
    nbformat = pytest.importorskip("nbformat")
    made = tmp_path_factory.mktemp("lab")
    notebook = execute(ROOT / "notebooks" / NAME)
    nbformat.write(notebook, made / NAME)
    subprocess.run(
        [sys.executable, "-m", "jupyter", "trust", str(made / NAME)],
        env=_environment(made),
        check=True,
        timeout=SECONDS,
    )
    return made


def _environment(folder: Path) -> dict[str, str]:
    """Settings of this test's own, not the user's."""
    return {**os.environ, **{f"JUPYTER_{each}_DIR": str(folder / each) for each in ("CONFIG", "DATA", "RUNTIME")}}


@contextmanager
def lab(folder: Path, theme: str) -> Generator[str]:
    """The address of a server that shows `folder` under a theme, "Light" or "Dark"."""
    settings = folder / theme / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": f"JupyterLab {theme}"}))
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    options += [f"--LabApp.user_settings_dir={folder / theme}", f"--notebook-dir={folder}"]
    with (folder / f"{theme}.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=_environment(folder), stdout=log, stderr=log)
        try:
            _await(f"http://127.0.0.1:{port}/api")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(SECONDS)


def _await(url: str) -> None:
    for _ in range(SECONDS * 2):
        try:
            urllib.request.urlopen(url)
            return
        except urllib.error.URLError:
            time.sleep(0.5)
    raise TimeoutError(url)


_CUT = """() => [...document.querySelectorAll('.qegraph, .qegraph .wide, .jp-OutputArea-output pre')]
    .filter(each => each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 1)
    .map(each => each.innerText.slice(0, 80))"""
_LEFT = "getComputedStyle(document.querySelector('.qegraph tbody td')).textAlign"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_nothing_is_cut_off_in_jupyterlab(chromium: Any, folder: Path, theme: str, tmp_path: Path) -> None:
    with lab(folder, theme) as address:
        page = chromium.new_context(viewport={"width": 1280, "height": 9000}).new_page()
        page.goto(f"{address}/doc/tree/{NAME}")
        page.wait_for_selector("iframe[title=qegraph]", timeout=SECONDS * 1000)
        page.wait_for_function("document.querySelectorAll('.qegraph table').length === 5", timeout=SECONDS * 1000)
        assert page.evaluate(_CUT) == []
        assert page.evaluate(_LEFT) == "left"
        frames = [each for each in page.frames if each is not page.main_frame]
        assert len(frames) == 2
        for frame in frames:
            frame.wait_for_selector(".eclass, .box")
            assert frame.evaluate("document.documentElement.dataset.theme") == theme.lower()
            assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=str(tmp_path / f"lab-{theme}.png"))
