"""Nothing a test does depends on, or changes, what was measured on this machine before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from qegraph.tuning.store import FOLDER


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Costs depend on the number of threads, and so may choices."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Session-wide: what is measured in one test may be used in the next of the same process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(tmp_path_factory.mktemp("cache")))
        yield
