"""What the peers share: a conversion that stays silent, and tensors in and out of NumPy arrays."""

from __future__ import annotations

import importlib
import io
import logging
import random
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from qegraph import zoo
from qegraph.bench.counts import operator_name
from qegraph.zoo import missing_extra

_SOFTMAX = {"softmax", "_softmax"}
_PRODUCTS = {"matmul", "bmm", "baddbmm"}


def package(name: str) -> Any:
    """The module called `name`. Raises MissingExtra where the extra isn't installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_extra(name.split(".")[0], "peers") from error


@contextmanager
def conversion() -> Generator[None]:
    """Drop what is printed, logged and warned of in the block, and give the caller's random states back."""
    python, array, disabled = random.getstate(), np.random.get_state(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with (
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(disabled)
            random.setstate(python)
            np.random.set_state(array)


def arrays(inputs: zoo.Inputs) -> list[Any]:
    """The same memory as NumPy sees it."""
    return [each.numpy() for each in inputs]


def tensors(found: Iterable[Any]) -> tuple[torch.Tensor, ...]:
    """The same memory as torch sees it."""
    return tuple(torch.from_numpy(each) for each in found)


def has_attention(graph: GraphModule) -> bool:
    """Whether a softmax weighs a product, by itself or inside one op: what the peers call a transformer."""
    for node in graph.graph.nodes:
        name = operator_name(node)
        if name == "scaled_dot_product_attention":
            return True
        if name in _SOFTMAX and _PRODUCTS & _reached(node):
            return True
    return False


def _reached(node: torch.fx.Node) -> set[str]:
    """Names of the ops that see a value first, past dropout, views and quantization."""
    names: set[str] = set()
    pending = list(node.users)
    while pending:
        user = pending.pop()
        name = operator_name(user)
        if name in {"dropout", "view", "reshape", "expand", "clone"} or "quantize" in name:
            pending += user.users
        else:
            names.add(name)
    return names
