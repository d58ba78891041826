"""Files of rules, loaded by content: what has changed since is loaded again, what hasn't gives the same rules."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import qegraph.lang
from qegraph.errors import RuleError, WordError, nearest
from qegraph.lang.rule import Rule

_loaded: dict[Path, tuple[str, ModuleType]] = {}
_LOADING = threading.RLock()
"""Two threads that execute a file at once would make two rules of one. A file may load others."""


def load(paths: Iterable[Path]) -> tuple[Rule, ...]:
    """All rules of the given files and folders, in order; of a folder every file but tests and `_private` ones.

    Raises RuleError for a path or file that can't be loaded, or defines no rules.
    """
    return tuple(rule for path in paths for rule in _load(path))


def _load(path: Path) -> list[Rule]:
    files = files_of(path) if path.is_dir() else [path]
    rules = [rule for file in files for rule in rules_of(_module(file))]
    if not rules:
        raise RuleError(f"{path} defines no rules; a rule is a function under `@rule` from qegraph.lang")
    return rules


def files_of(folder: Path) -> list[Path]:
    """The rule files of a folder, in alphabetical order."""
    private = ("_", "test_", "conftest.")
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(private)]


def rules_of(module: ModuleType) -> list[Rule]:
    """The rules a module defines; of a package those of its own modules that it imports, too."""
    file = getattr(module, "__file__", None)
    if file is None:  # a notebook, or a module made by hand
        homes: tuple[str, ...] | None = None
    else:
        homes = (file, *(f"{folder}/" for folder in getattr(module, "__path__", ())))
    rules = [item for item in vars(module).values() if isinstance(item, Rule)]
    return [rule for rule in rules if homes is None or rule.file.startswith(homes)]


def _module(path: Path) -> ModuleType:
    """The file's module. Compiled from its text: Python's own cache of files can't tell two within a second apart."""
    path = path.resolve()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        near = nearest(path.name, [each.name for each in path.parent.glob("*")]) if path.parent.is_dir() else ""
        raise RuleError(f"no rule file can be read at {path}: {error}{near}") from error
    with _LOADING:
        if path in _loaded and _loaded[path][0] == text:
            return _loaded[path][1]
        module = _executed(path, text)
        _loaded[path] = (text, module)
        return module


def _executed(path: Path, text: str) -> ModuleType:
    name = f"qegraph_rules_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    before, sys.modules[name] = sys.modules.get(name), module
    try:
        exec(compile(text, path, "exec", dont_inherit=True), vars(module))
        _check_repeats(path, text, module)
    except BaseException as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        if isinstance(error, RuleError) or not isinstance(error, (Exception, SystemExit)):
            raise
        raise RuleError(f"rule file {_line(path, error)}: {_problem(error)}") from error
    return module


def _check_repeats(path: Path, text: str, module: ModuleType) -> None:
    """Python would forget the first of two functions of one name without a word."""
    seen: dict[str, int] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and isinstance(vars(module).get(node.name), Rule):
            if node.name in seen:
                places = f"{path}:{seen[node.name]} and {path}:{node.lineno}"
                raise RuleError(f"two rules are named {node.name.replace('_', '-')}: {places}; rename one")
            seen[node.name] = node.lineno


def _line(path: Path, error: BaseException) -> str:
    """file:line of what failed at the top of the file."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _problem(error: BaseException) -> str:
    if isinstance(error, WordError):
        return str(error)
    words = [name for name in vars(qegraph.lang) if not name.startswith("_")]
    missing = re.match(r"cannot import name '(\w+)' from 'qegraph\.lang'", str(error))
    if missing:
        return f"the rule language has no {missing[1]}{nearest(missing[1], words)}"
    if isinstance(error, NameError) and error.name in words:
        return f"{error.name} isn't imported; write `from qegraph.lang import {error.name}`"
    near = nearest(error.name, words) if isinstance(error, NameError) and error.name else ""
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}{near}"
