"""The file of an optimised module: a zip archive that `torch.load(weights_only=True)` reads.

It is not an archive of `torch.export.save`, because reading one of those can run code: what its table of contents says
is pickled is unpickled, symbolic expressions are evaluated as Python, compiled libraries that lie in it are loaded. Nor
can one hold our graphs: in torch 2.13 it refuses the empty lists of numbers that oneDNN's operators take, and it would
lose what a module of ours does one way eagerly and another under a compiler.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import fx

from qegraph.emit import META
from qegraph.errors import LoadError, QegraphError, SaveError
from qegraph.files import replacing
from qegraph.machine import describe
from qegraph.report import Report
from qegraph.saving.needs import needs, unmet
from qegraph.saving.record import Tensors, record
from qegraph.saving.restore import restore
from qegraph.view.record import from_json, to_json

FORMAT = "qegraph-module-2"
"""Changes whenever an older qegraph couldn't read what a newer one writes, or the other way round."""


def save(module: fx.GraphModule, path: str | os.PathLike[str]) -> None:
    """Write a result of `optimize` to a file that holds data only; `load` makes it again, bit for bit.

    The file is replaced as a whole: if anything goes wrong, an older one stays. The report goes with it; checks of
    input shapes that `torch.export` made don't.
    Raises SaveError for what is no graph of operators, OSError where nothing can be written.
    """
    if not isinstance(module, fx.GraphModule):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SaveError(
            f"expected what qegraph.optimize returned, got {type(module).__name__}; a compiled module is saved as what "
            "it was before torch.compile"
        )
    tensors: Tensors = {}
    report = module.meta.get(META)
    header = {
        "format": FORMAT,
        "qegraph": metadata.version("qegraph"),
        "torch": torch.__version__,
        "machine": asdict(describe(torch.get_num_threads())),
        "needs": needs(module),
        "module": record(module, tensors),
        "report": to_json(report) if isinstance(report, Report) else None,
    }
    contents = {"header": json.dumps(header), "tensors": tensors}
    try:
        with replacing(Path(path)) as file, _checksums():
            torch.save(contents, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch says that something was left unwritten, and hides why
            raise error.__context__ from None
        raise


def load(path: str | os.PathLike[str]) -> fx.GraphModule:
    """The module that `save` wrote: its results are bit for bit those of the saved one, and it can be compiled, copied
    and saved like it. Nothing in the file is run.

    Raises LoadError, which says what to do, for a file that isn't one of `save`, is damaged, was written for another
    torch, or needs instructions this CPU doesn't have; OSError for one that can't be opened.
    """
    path = Path(path)
    header, tensors = _contents(path)
    _check_versions(path, header)
    try:
        module = restore(header["module"], tensors)
        report, wanted = header["report"], list(header["needs"])
        if report is not None:
            module.meta[META] = from_json(report)
    except LoadError as reason:
        raise LoadError(f"{path}: {reason}") from reason
    except (QegraphError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as reason:
        raise _damaged(path, f"{type(reason).__name__}: {reason}") from reason
    _check_machine(path, wanted, header)
    return module


def _contents(path: Path) -> tuple[Mapping[str, Any], Tensors]:
    """Header and tensors. The archive's checksums are compared here, as torch doesn't."""
    raw = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise _damaged(path, f"the checksum of {wrong} is wrong")
        found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        header, tensors = json.loads(found["header"]), found["tensors"]
        plain = all(type(each) is torch.Tensor and each.layout is torch.strided for each in tensors.values())
        if not plain or not str(header["format"]).startswith("qegraph-module-"):
            raise KeyError("format")
    except (zipfile.BadZipFile, pickle.UnpicklingError, *_MALFORMED) as reason:
        raise LoadError(
            f"{path} is no file of qegraph.save, or only the beginning of one "
            f"({type(reason).__name__}: {reason!s:.80}); save the module again with qegraph.save"
        ) from reason
    return header, tensors


_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, EOFError, IndexError, NotImplementedError)


def _check_versions(path: Path, header: Mapping[str, Any]) -> None:
    """The operators' arguments and numerics are those of one minor version of torch."""
    here, there = torch.__version__, str(header.get("torch"))
    if header["format"] != FORMAT or _minor(here) != _minor(there):
        raise LoadError(
            f"{path} was written by qegraph {header.get('qegraph')} ({header['format']}) with torch {there}; this is "
            f"qegraph {metadata.version('qegraph')} ({FORMAT}) with torch {here}: optimise and save the model again "
            "with these, or install those"
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _check_machine(path: Path, wanted: list[str], header: Mapping[str, Any]) -> None:
    missing = unmet(wanted)
    if missing:
        machine = header.get("machine", {})
        raise LoadError(
            f"{path} was optimised on {machine.get('cpu')} ({' '.join(machine.get('isa', ()))}), and needs what this "
            f"CPU doesn't have: {'; '.join(missing)}. Run qegraph.optimize on this machine, and save its result"
        )


def _damaged(path: Path, reason: str) -> LoadError:
    return LoadError(f"{path} is damaged ({reason:.200}); copy it again, or save the module again with qegraph.save")


class _checksums:
    """The archive gets its checksums, whatever the caller's setting."""

    def __enter__(self) -> None:
        self._before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(True)

    def __exit__(self, *_: object) -> None:
        torch.serialization.set_crc32_options(self._before)
