"""`qegraph.package`: an exported program as a package of AOTInductor that holds whatever it calls."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from qegraph import _dynamo, native
from qegraph.errors import QegraphError
from qegraph.files import replacing

_ONEDNN = "libdnnl.so.3"
"""The name by which the operators' library asks for it."""


def package(
    program: torch.export.ExportedProgram,
    path: str | os.PathLike[str],
    *,
    inductor_configs: Mapping[str, Any] | None = None,
) -> str:
    """Compile an exported program into a file for `torch._inductor.aoti_load_package`, or for torch's loader in C++.

    program           what `torch.export.export` makes of a result of `optimize`
    path              ends in ".pt2", and is returned; the file is replaced as a whole: if anything goes wrong, an older
                      one stays
    inductor_configs  Inductor's settings, as `torch._inductor.aoti_compile_and_package` takes them

    Native kernels, those of `optimize(..., kernels="native")`, go into the file, with the oneDNN they call: 55 MB.
    Their weights stay as they are, and are packed at the first call of each, for the CPU that runs it. Those of torch's
    operators are packed now.
    Raises QegraphError for anything but such a program and such a path, OSError where nothing can be written; what
    Inductor raises passes through.
    """
    if not isinstance(program, torch.export.ExportedProgram):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise QegraphError(
            f"expected an exported program, got {type(program).__name__}: torch.export.export(fast, inputs) makes one "
            "of what qegraph.optimize returned"
        )
    if program.example_inputs is None:
        raise QegraphError("the program has no example inputs, which AOTInductor compiles it on: export it again")
    name = os.fspath(path)
    if not name.endswith(".pt2"):
        raise QegraphError(f"a package's name ends in \".pt2\", or torch won't load it; got {name!r}")
    calls = _calls_native_kernels(program.graph_module)
    settings = {**(native.call_settings() if calls else {}), **(inductor_configs or {})}
    with tempfile.TemporaryDirectory() as folder, replacing(Path(name)) as file:
        _dynamo.compile_package(program, file, settings, _libraries(Path(folder)) if calls else ())
    return name


def _calls_native_kernels(module: fx.GraphModule) -> bool:
    """In its graph, or in one that a higher-order operator of it calls."""
    graphs = (each.graph for each in module.modules() if isinstance(each, fx.GraphModule))
    return any(native.is_operator(node.target) for graph in graphs for node in graph.nodes)


def _libraries(folder: Path) -> Sequence[Path]:
    """What native kernels need, by the names they are looked for; links to them are made in `folder`."""
    files = native.files()
    (folder / _ONEDNN).symlink_to(files.onednn)
    return files.operators, folder / _ONEDNN
