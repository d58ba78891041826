"""Stamps of proofs: kept beside the rules they are about, and stale once the rule or the domain has changed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from qegraph.errors import RuleError
from qegraph.files import write_text
from qegraph.lang.rule import Rule
from qegraph.prove.proof import Proof

FILE = "proofs.json"
"""In the folder of the rule's file."""


_DOMAIN = (
    "batch", "contractions", "evaluate", "exact", "growers", "hints", "instances", "judge", "leaves", "load", "moves",
    "params", "sampler",
)  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """What a proof has shown of a rule, and of which one. digest  of its text; domain  of what it was tried on.

    Versions are those it was proved with; a stamp made with others stays valid, as the rule says the same.
    """

    digest: str
    domain: str
    qegraph: str
    torch: str
    date: str
    outcome: str
    instances: int
    exact: int
    within: int
    outside: int
    flips: int
    elements: int


def digest(rule: Rule) -> str:
    """Of all that decides what the rule does: its terms, its guards' facts, and how it is applied."""
    parts = [f"{each.lhs} = {each.rhs}" for each in rule.equalities]
    parts += [fact for guard in rule.guards for fact in guard.facts]
    return _short("\n".join([*parts, str(rule.exact), str(rule.one_way)]))


@functools.cache
def domain() -> str:
    """Of how instances are made and judged: the modules that do."""
    return _short("".join((Path(__file__).parent / f"{name}.py").read_text() for name in _DOMAIN))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def stamp(proof: Proof) -> Stamp:
    return Stamp(
        digest(proof.rule), domain(), version("qegraph"), torch.__version__, datetime.now(UTC).date().isoformat(),
        proof.outcome, proof.instances, proof.exact, proof.within, proof.outside, proof.flips, proof.elements,
    )  # fmt: skip


def keep(proofs: Iterable[Proof]) -> list[Path]:
    """Write the stamps of proofs that are not refuted; the files that were written. Others' stamps stay."""
    by_file: dict[Path, dict[str, Any]] = {}
    for proof in proofs:
        if proof.outcome in ("proved", "inexact", "not run") and (path := _path(proof.rule)) is not None:
            by_file.setdefault(path, {})[proof.rule.name] = asdict(stamp(proof))
    for path, stamps in by_file.items():
        known = _read(path)
        write_text(path, json.dumps({**known, **stamps}, indent=1, sort_keys=True) + "\n")
    return list(by_file)


def stamp_of(rule: Rule) -> Stamp | None:
    """The stamp kept for the rule, fresh or stale. Raises RuleError for a file of stamps that can't be read."""
    path = _path(rule)
    found = _read(path).get(rule.name) if path is not None else None
    if found is None:
        return None
    try:
        return Stamp(**found)
    except TypeError as error:
        raise RuleError(f"{path}: the stamp of {rule.name} can't be read: {error}; make it anew ({_HOW})") from error


_HOW = "qegraph rules check --stamp"


def stale(rule: Rule, found: Stamp) -> str:
    """Why the stamp no longer says anything about the rule; empty if it does."""
    if found.digest != digest(rule):
        return f"the rule has changed since it was proved on {found.date}"
    if found.domain != domain():
        return f"what rules are tried on has changed since it was proved on {found.date}"
    return ""


def told(rule: Rule) -> str:
    """The stamp in a few words; empty if there is none."""
    found = stamp_of(rule)
    if found is None:
        return ""
    if reason := stale(rule, found):
        return f"stale: {reason}"
    if found.outcome == "not run":
        return f"not run on {found.date}: its kernel isn't there"
    outside = f", {found.outside} outside the contract" if found.outside else ""
    return f"proved {found.date}: {found.instances} instances, {found.exact} exact{outside}"


def _path(rule: Rule) -> Path | None:
    """None for a rule of no file: one of a notebook's cell."""
    file = Path(rule.file)
    return file.parent / FILE if file.is_file() else None


def _read(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RuleError(f"{path}: can't be read: {error}; delete it and make it anew ({_HOW})") from error
    if not isinstance(found, dict):
        raise RuleError(f"{path}: expected an object of stamps by rule name; delete it and make it anew ({_HOW})")
    return found  # pyright: ignore[reportUnknownVariableType]
