"""`undisturbed`: what a caller has switched on in torch is no part of the graph that is handed over."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed() -> Generator[None]:
    """No inference mode, gradients or autocast, for as long as the block runs."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield
