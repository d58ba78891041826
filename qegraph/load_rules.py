"""Finding rules: the shipped folder; files, folders, modules and installed packs of the user's own."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from qegraph.errors import RuleError, nearest
from qegraph.lang.rule import Rule
from qegraph.rule_files import files_of, load, rules_of

RuleItem = Rule | str | Path | ModuleType
"""What `select` takes: see there."""

DEFAULT = "default"
PACK = "pack:"
GROUP = "qegraph.rules"
"""Entry points of this group are rule packs: a module, a rule, or a list of rules."""

_FORMS = (
    'a Rule, the name of a shipped rule, "default", "-NAME" to take one away, the path of a file or folder, a module, '
    'its dotted name, or "pack:NAME" of an installed pack'
)


def shipped_folder() -> Path:
    """The rules of this installation: inside the package if installed from a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "_rules"
    return inside if inside.is_dir() else here.parent / "rules"


def shipped() -> tuple[Rule, ...]:
    """All shipped rules, files in alphabetical order, rules in the order they are written."""
    return _once(load(files_of(shipped_folder())))


def select(rules: Sequence[RuleItem] | None) -> tuple[Rule, ...]:
    """The rules to run: all shipped exact ones for None; else what the items name, one after another.

    An item is a `Rule`; the name of a shipped rule; "default", all shipped exact ones; "-NAME", which takes a rule
    named before away; the path of a file or a folder of files; a module, or its dotted name; or "pack:NAME", an
    installed package's entry point in the group `qegraph.rules`.

    Files are read again when they have changed. Of two rules of one name from cells of a notebook the later one counts.
    Raises RuleError for an item that is none of these or can't be loaded, and for two rules of one name.
    """
    if rules is None:
        return _exact()
    if isinstance(rules, str):
        raise RuleError(f"rules must be a list, as in [{rules!r}]")
    chosen: tuple[Rule, ...] = ()
    for item in rules:
        if isinstance(item, str) and item.startswith("-"):
            chosen = _without(chosen, item[1:])
        else:
            chosen = _once((*chosen, *_rules_of(item)))
    return chosen


def by_name(name: str) -> Rule:
    """The shipped rule of this name. Raises RuleError with the nearest name."""
    known = {rule.name: rule for rule in shipped()}
    if name not in known:
        raise RuleError(f"no shipped rule is named {name}{nearest(name, known)}")
    return known[name]


def _exact() -> tuple[Rule, ...]:
    return tuple(rule for rule in shipped() if rule.exact)


def _rules_of(item: object) -> Iterable[Rule]:
    if isinstance(item, Rule):
        return [item]
    if isinstance(item, Path):
        return load([item])
    if isinstance(item, ModuleType):
        return _rules_in(item)
    if not isinstance(item, str):
        raise RuleError(f"{item!r} ({type(item).__name__}) is not a way to name rules; expected {_FORMS}")
    if item == DEFAULT:
        return _exact()
    if item.startswith(PACK):
        return _pack(item.removeprefix(PACK))
    if item.endswith(".py") or os.sep in item or (item not in _names() and Path(item).is_dir()):
        return load([Path(item)])
    if "." in item:
        return _rules_in(_imported(item))
    return [_by_name(item)]


def _names() -> list[str]:
    return [rule.name for rule in shipped()]


def _by_name(name: str) -> Rule:
    try:
        return by_name(name)
    except RuleError as error:
        raise RuleError(f"{error}; an item of rules is {_FORMS}") from None


def _rules_in(module: ModuleType) -> list[Rule]:
    rules = rules_of(module)
    if not rules:
        raise RuleError(f"module {module.__name__} defines no rules; a rule is a function under `@rule`")
    return rules


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except RuleError:
        raise
    except Exception as error:  # whatever the module's own code raises
        hint = "; a path ends in .py or has a folder in it" if isinstance(error, ModuleNotFoundError) else ""
        raise RuleError(f"rule module {name} can't be imported: {type(error).__name__}: {error}{hint}") from error


def _pack(name: str) -> list[Rule]:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        there = f"there are {', '.join(sorted(points))}" if points else "none is installed"
        raise RuleError(
            f"no installed package has a rule pack {name} (entry points of {GROUP}): {there}{nearest(name, points)}"
        )
    point = points[name]
    try:
        made: Any = point.load()
    except RuleError:
        raise
    except Exception as error:  # whatever the package's own code raises
        raise RuleError(f"rule pack {name} ({point.value}) can't be loaded: {type(error).__name__}: {error}") from error
    if isinstance(made, ModuleType):
        return _rules_in(made)
    rules: list[Any] = [made] if isinstance(made, Rule) else list(made) if isinstance(made, (list, tuple)) else [None]
    if not rules or not all(isinstance(rule, Rule) for rule in rules):
        raise RuleError(f"rule pack {name}: {point.value} must be a module, a rule or a list of rules, got {made!r}")
    return rules


def _without(chosen: tuple[Rule, ...], name: str) -> tuple[Rule, ...]:
    left = tuple(rule for rule in chosen if rule.name != name)
    if len(left) == len(chosen):
        names = [rule.name for rule in chosen]
        hint = nearest(name, names) if names else f'; begin with "{DEFAULT}"'
        raise RuleError(f'"-{name}" takes away a rule that none of the items before it names{hint}')
    return left


def _once(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Each rule once, however often it is named. Raises RuleError for two of one name."""
    seen: dict[str, Rule] = {}
    for rule in rules:
        other = seen.setdefault(rule.name, rule)
        if other is rule:
            continue
        if _of_cell(other) and _of_cell(rule):
            seen[rule.name] = rule
        else:
            raise RuleError(f"two rules are named {rule.name}: {other.where} and {rule.where}; rename one")
    return tuple(seen.values())


def _of_cell(rule: Rule) -> bool:
    """It was defined in a notebook or at a prompt: there is no such file."""
    return not Path(rule.file).exists()
