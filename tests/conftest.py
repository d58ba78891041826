"""Nothing a test does depends on, or changes, what was measured on this machine before."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import torch

from qegraph.alarms import CONSTANTS
from qegraph.machine import FOLDER


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Costs depend on the number of threads, and so may choices."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def imports_stay() -> None:
    """Garbage collections don't look through what imports made: a fifth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """For what is timed: a collection looks through all that other tests left."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Random inputs are the same whichever tests run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Session-wide: what is measured in one test may be used in the next of the same process.

    The native operators are built once for all processes of a run.
    """
    own = tmp_path_factory.mktemp("cache")
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "native"
    shared.mkdir(exist_ok=True)
    (own / "native").symlink_to(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(own))
        patch.setenv(CONSTANTS, "1")
        yield
