"""What was measured on this machine, kept between processes: one JSON file in the user's cache directory."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import filelock

from qegraph.cost import Rates
from qegraph.files import replacing
from qegraph.machine import Machine, cache_folder, describe

FORMAT = 1
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Contents:
    """rates  of this machine, None before `qegraph calibrate`. times  signature of an e-node -> µs.

    winners  digest of an e-graph -> the name of the form that won its race.
    """

    rates: Rates | None = None
    times: Mapping[str, float] = field(default_factory=dict[str, float])
    winners: Mapping[str, str] = field(default_factory=dict[str, str])


class Store:
    """The file of one processor, within what this process may use of it, thread count and torch version.

    Several processes may use it at once: it is replaced as a whole, under a lock. One that can't be read is ignored
    with a warning and written anew; where nothing can be written, a warning says so and the measurements are lost.
    """

    def __init__(self, machine: Machine, folder: Path | None = None) -> None:
        self.machine = machine
        self.path = (folder or cache_folder()) / f"{_slug(machine)}.json"

    @staticmethod
    def here(threads: int) -> Store:
        """That of the running machine."""
        return Store(describe(threads))

    def read(self) -> Contents:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return Contents()
        except (OSError, UnicodeDecodeError) as problem:
            return self._ignored(str(problem))
        try:
            return _contents(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            return self._ignored(f"{type(problem).__name__}: {problem}")

    def update(
        self,
        rates: Rates | None = None,
        times: Mapping[str, float] | None = None,
        winners: Mapping[str, str] | None = None,
    ) -> None:
        """Add to what is there; what others wrote in the meantime stays."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self.path}.lock", timeout=_LOCK_SECONDS):
                before = self.read()
                merged = {**before.times, **(times or {})}, {**before.winners, **(winners or {})}
                self._write(Contents(rates or before.rates, *merged))
        except (OSError, filelock.Timeout) as problem:
            warnings.warn(f"what was measured can't be kept in {self.path}: {problem}", stacklevel=2)

    def _write(self, contents: Contents) -> None:
        data = {
            "format": FORMAT,
            "machine": asdict(self.machine),
            "rates": asdict(contents.rates) if contents.rates else None,
            "times": dict(sorted(contents.times.items())),
            "winners": dict(sorted(contents.winners.items())),
        }
        with replacing(self.path) as file:
            file.write(json.dumps(data, indent=1).encode())

    def _ignored(self, reason: str) -> Contents:
        warnings.warn(f"{self.path} can't be read and is ignored, to be written anew: {reason}", stacklevel=3)
        return Contents()


def _slug(machine: Machine) -> str:
    """The file's name: what the figures depend on."""
    parts = (machine.cpu, *machine.isa[-1:], *machine.limits, f"{machine.threads}t", f"torch-{machine.torch}")
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-")


def _contents(data: Any) -> Contents:
    """Raises ValueError, TypeError, KeyError or AttributeError for data that isn't the store's."""
    if data["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, found {data['format']}")
    times = {str(key): _positive(value) for key, value in data["times"].items()}
    winners = {str(key): str(value) for key, value in data["winners"].items()}
    known = {each.name for each in fields(Rates)}
    rates = data["rates"]
    made = None if rates is None else Rates(**{key: _positive(rates[key]) for key in rates if key in known})
    return Contents(made, times, winners)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"expected a finite number >= 0, found {value!r}")
    return value
