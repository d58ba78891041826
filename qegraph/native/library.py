"""The shared library of our operators: built with the machine's C++ compiler, once, and kept in the cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import get_args

import filelock
import torch

from qegraph.errors import QegraphError
from qegraph.kernels import Kernels
from qegraph.machine import cache_folder
from qegraph.native.operators import describe_operators
from qegraph.progress import progress

SOURCES = Path(__file__).with_name("source")
ONEDNN = "QEGRAPH_ONEDNN"
"""Environment variable that names another oneDNN library (libdnnl.so, version 3, for OpenMP) than the extra's."""

_PACKAGE = "onednn-cpu-gomp"
_BUILD_SECONDS = 600.0
_OPENMP = 2
"""`dnnl_version_t.cpu_runtime` of a oneDNN that runs on OpenMP threads: torch's, so that there is one pool of them."""


class _Version(ctypes.Structure):
    """`dnnl_version_t` of oneDNN 3."""

    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


@dataclass(frozen=True)
class Files:
    """The shared library of our operators, and the oneDNN they call."""

    operators: Path
    onednn: Path


class _Missing(Exception):
    """Why the operators can't be used here."""


def load() -> bool:
    """Make `torch.ops.qegraph.qlinear` and `qconv` exist; whether they do. The first call on a machine builds them."""
    return unavailable() is None


def unavailable() -> str | None:
    """Why there are no operators of our own in this process, and what to do about it; None if there are."""
    found = loaded()
    return found if isinstance(found, str) else None


def require(kernels: str) -> None:
    """Raises ValueError for kernels of no known kind, QegraphError for our own where they can't be had, with why."""
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels must be one of {get_args(Kernels)}, got {kernels!r}")
    if kernels == "native" and (reason := unavailable()):
        raise QegraphError(f'kernels="native": {reason}')


def files() -> Files:
    """What is loaded; for callers that know from `unavailable` that it is."""
    found = loaded()
    assert isinstance(found, Files), found
    return found


@functools.cache
def loaded() -> Files | str:
    """The operators, built if they weren't there; or why there are none."""
    try:
        onednn = _onednn()
        found = Files(_built(onednn), onednn)
        _define(found.operators)
    except _Missing as reason:
        return str(reason)
    except (OSError, AttributeError) as problem:
        return f"the operators' library can't be loaded, delete it to have it built anew: {problem}"
    describe_operators()
    return found


def _define(operators: Path) -> None:
    """In torch. No name is lent to the process: a package in it may have other functions by the same ones."""
    define = ctypes.CDLL(str(operators)).qegraph_define
    define.restype = ctypes.c_char_p
    if problem := define():
        raise _Missing(f"torch refuses the operators: {problem.decode()}")


def _onednn() -> Path:
    """A oneDNN library that fits."""
    named = os.environ.get(ONEDNN)
    path = Path(named) if named else _installed()
    try:
        describe = ctypes.CDLL(str(path)).dnnl_version
    except (OSError, AttributeError) as problem:
        raise _Missing(f"{path} is no oneDNN library: {problem}") from problem
    describe.restype = ctypes.POINTER(_Version)
    version = describe().contents
    if version.major != 3 or version.cpu_runtime != _OPENMP:
        raise _Missing(
            f"{path} is oneDNN {version.major}.{version.minor} with CPU runtime {version.cpu_runtime}; "
            f"needed is version 3 built for OpenMP (runtime {_OPENMP})"
        )
    return path


def _installed() -> Path:
    """That of the extra."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise _Missing("the extra isn't installed: pip install 'qegraph[native]'") from None
    for file in files:
        if file.name == "libdnnl.so.3":
            return Path(str(file.locate())).resolve()
    raise _Missing(f"the package {_PACKAGE} has no libdnnl.so.3; install it again")


def _built(onednn: Path) -> Path:
    """The library for this source, torch and oneDNN, built if it isn't there."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise _Missing("there is no C++ compiler (c++, g++ or clang++, or the one CXX names)")
    command = _command(compiler, onednn)
    texts = [file.read_bytes() for file in sorted(SOURCES.iterdir())]
    digest = hashlib.sha256(b"".join(texts) + repr((command, torch.__version__)).encode()).hexdigest()[:16]
    target = cache_folder() / "native" / f"libqegraph.so.{digest}"
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock", timeout=_BUILD_SECONDS):
            if not target.exists():
                with progress("native", lines=False) as tell:
                    tell("building the int8 operators, once for this machine")
                    _build([*command, f"-Wl,-soname,{target.name}"], target)
    except (OSError, filelock.Timeout) as problem:
        raise _Missing(f"the operators can't be built in {target.parent}: {problem}") from problem
    return target


def _command(compiler: str, onednn: Path) -> list[str]:
    """Everything but the output file."""
    from torch.utils import cpp_extension  # takes longer to import than qegraph does to look for a built library

    includes = [f"-I{path}" for path in cpp_extension.include_paths()]
    libraries = [f"-L{path}" for path in cpp_extension.library_paths()]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    flags = ["-shared", "-fPIC", "-std=c++20", "-O2", "-fvisibility=hidden", "-Wl,-z,nodelete", abi]
    against = ["-lc10", "-ltorch_cpu", str(onednn), f"-Wl,-rpath,$ORIGIN:{onednn.parent}"]
    return [compiler, *flags, *includes, str(SOURCES / "operators.cpp"), *libraries, *against]


def _build(command: list[str], target: Path) -> None:
    """Put in place as a whole: a process that is interrupted leaves nothing half-written under the name."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        run = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if run.returncode or not made.exists():
            lines = [line for line in run.stderr.splitlines() if "error" in line] or run.stderr.splitlines()
            said = " | ".join(lines[:2]) or f"exit code {run.returncode}"
            raise _Missing(f"{command[0]} can't build the operators: {said}")
        os.replace(made, target)
