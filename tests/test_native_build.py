"""Where the native operators can't be had, the reason and the remedy are said, and nothing else is used silently."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import Linear, fq, net

import qegraph
from qegraph import native
from qegraph.machine import FOLDER
from qegraph.native import library


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    """The answer is kept for the process."""
    library.loaded.cache_clear()
    yield
    library.loaded.cache_clear()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def has_onednn() -> None:
    try:
        metadata.version("onednn-cpu-gomp")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra isn't installed")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    assert native.unavailable() == "the extra isn't installed: pip install 'qegraph[native]'"
    gm = net(lambda a, x: a(fq(x)), [Linear()], [torch.randn(3, 24)])
    with pytest.raises(qegraph.QegraphError, match=r"kernels=\"native\": the extra isn't installed"):
        qegraph.optimize(gm, kernels="native")


def test_another_library_than_onednn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(library.ONEDNN, str(tmp_path / "libdnnl.so"))
    assert "is no oneDNN library" in str(native.unavailable())


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    has_onednn()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(nowhere))
    assert "there is no C++ compiler" in str(native.unavailable())


@pytest.mark.parametrize("compiler", ["/nonexistent/c++", "/bin/false", "/bin/true"])
def test_a_compiler_that_fails(compiler: str, monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    has_onednn()
    monkeypatch.setenv("CXX", compiler)
    assert "can't b" in str(native.unavailable()) and compiler in str(native.unavailable())
    assert all(path.suffix == ".lock" for path in nowhere.rglob("*.so*")), "something half-built was left"


def test_a_cache_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has_onednn()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file"))
    assert "can't be built in" in str(native.unavailable())


def test_unknown_kernels_are_refused() -> None:
    gm = net(lambda a, x: a(fq(x)), [Linear()], [torch.randn(3, 24)])
    kernels: Any = "fastest"
    with pytest.raises(ValueError, match="kernels must be one of"):
        qegraph.optimize(gm, kernels=kernels)
