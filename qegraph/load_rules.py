"""Finding rules: the shipped folder, and files or modules of the user's own."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from qegraph.errors import RuleError
from qegraph.lang.rule import Rule


def shipped_folder() -> Path:
    """The rules of this installation: inside the package if installed from a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "_rules"
    return inside if inside.is_dir() else here.parent / "rules"


@functools.cache
def shipped() -> tuple[Rule, ...]:
    """All shipped rules, files in alphabetical order, rules in the order they are written."""
    return load(sorted(shipped_folder().glob("*.py")))


def load(paths: Iterable[Path]) -> tuple[Rule, ...]:
    """All rules defined in the given files. Raises RuleError for a file that fails or a name used twice."""
    rules = [rule for path in paths for rule in rules_of(_import(path))]
    check_names(rules)
    return tuple(rules)


def rules_of(module: ModuleType) -> list[Rule]:
    return [
        item for item in vars(module).values() if isinstance(item, Rule) and item.where.split(":")[0] == module.__file__
    ]


def check_names(rules: Sequence[Rule]) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in seen:
            raise RuleError(f"two rules are named {rule.name}: {seen[rule.name].where} and {rule.where}; rename one")
        seen[rule.name] = rule


def select(rules: Sequence[Rule | str | Path] | None) -> tuple[Rule, ...]:
    """The rules to run: all shipped exact ones for None; else the given rules, shipped names, and rule files."""
    if rules is None:
        return tuple(rule for rule in shipped() if rule.exact)
    chosen: list[Rule] = []
    for item in rules:
        if isinstance(item, Rule):
            chosen.append(item)
        elif isinstance(item, Path) or item.endswith(".py"):
            chosen.extend(load([Path(item)]))
        else:
            chosen.append(by_name(item))
    check_names(chosen)
    return tuple(chosen)


def by_name(name: str) -> Rule:
    """The shipped rule of this name. Raises RuleError with the nearest name."""
    known = {rule.name: rule for rule in shipped()}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RuleError(f"no shipped rule is named {name}{hint}")
    return known[name]


def _import(path: Path) -> ModuleType:
    name = f"qegraph_rules_{path.stem}_{abs(hash(str(path.resolve()))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RuleError(f"no rule file at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except RuleError:
        raise
    except Exception as error:
        raise RuleError(f"rule file {path} can't be loaded: {type(error).__name__}: {error}") from error
    return module
