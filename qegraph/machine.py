"""The machine a measurement belongs to."""

from __future__ import annotations

import functools
import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
import torch

FOLDER = "QEGRAPH_CACHE_DIR"
"""Environment variable that names another folder than the user's cache directory."""
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Environment variables that keep oneDNN, of torch's and of the native extra, and torch from instructions there are."""
_FEATURES = ("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "amx_int8")


@dataclass(frozen=True)
class Machine:
    """What a ratio depends on.

    `isa` holds those int8 instruction sets the processor reports, `limits` what this process may not use of them.
    """

    cpu: str
    cores: int
    threads: int
    isa: tuple[str, ...]
    limits: tuple[str, ...]
    torch: str
    onednn: str
    torchao: str

    def line(self) -> str:
        isa = " ".join((*self.isa, *self.limits)) or "no known int8 instructions"
        return (
            f"{self.cpu}, {self.cores} cores, {self.threads} thread(s), {isa}, "
            f"torch {self.torch}, oneDNN {self.onednn}, torchao {self.torchao}"
        )


@functools.cache
def describe(threads: int) -> Machine:
    """This machine, with the thread count the measurement runs at."""
    capabilities = torch.cpu.get_capabilities()
    return Machine(
        cpu=_cpu_model(),
        cores=int(capabilities.get("num_physical_cores", 0)),
        threads=threads,
        isa=tuple(name for name in _FEATURES if capabilities.get(name)),
        limits=tuple(f"{name}={value}" for name in LIMITS if (value := os.environ.get(name))),
        torch=torch.__version__,
        onednn=_match(r"MKL-DNN v(\S+)", torch.__config__.show()) or "unknown",
        torchao=_version("torchao"),
    )


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    text = listing.read_text() if listing.exists() else ""
    return _match(r"model name\s*:\s*(.+)", text) or platform.processor() or platform.machine()


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1).strip() if found else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def cache_folder() -> Path:
    """Where what was measured and built on this machine is kept."""
    return Path(os.environ.get(FOLDER) or platformdirs.user_cache_dir("qegraph", appauthor=False))
