"""`qegraph rules new`: a rule that works and its test, for the author to change into the one that is meant."""

from __future__ import annotations

from pathlib import Path
from string import Template

from qegraph.errors import RuleError
from qegraph.lang.rule import KEBAB
from qegraph.load_rules import shipped, shipped_folder

_RULE = Template('''\
"""What this file's rules have in common: say it in a line."""

from qegraph.lang import Tensor, is_floating, mul, rewrite, rule, scalar
from qegraph.lang.rule import Rewrite


@rule
def $function(x: Tensor) -> Rewrite:
    """x 1 = x"""
    return rewrite(mul(x, scalar(1.0))).to(x).when(is_floating(x))
''')

_TEST = Template('''\
"""The rule $name makes a small graph better, and no different."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import qegraph

RULES = Path(__file__).resolve().parent$up / "$file"


class Example(nn.Module):
    """The smallest graph with the left side in it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x) * 1.0


def calls(rules: list[str | Path], operator: str) -> int:
    """How many calls of an operator the optimised example has, after asserting that it computes the same."""
    x = torch.randn(4, 8)
    gm = torch.export.export(Example(), (x,)).module()
    assert isinstance(gm, torch.fx.GraphModule)
    fast = qegraph.optimize(gm, rules=rules)
    torch.testing.assert_close(fast(x), gm(x))
    return sum(operator in str(node.target) for node in fast.graph.nodes)


def test_${function}() -> None:
    assert calls(["default", RULES, "-$name"], "aten.mul") == 1
    assert calls(["default", RULES], "aten.mul") == 0
''')


def new(name: str, folder: Path | None = None) -> tuple[Path, Path]:
    """Write the file of the rule `name` and its test; where they were written.

    folder  both go there; None: into rules/ and tests/ of the checkout the current folder is in, else into the
            current folder. Raises RuleError for a name that isn't kebab-case or isn't new, and for files that exist.
    """
    if not KEBAB.fullmatch(name):
        plain = "-".join("".join(c.lower() if c.isalnum() else " " for c in name).split())
        raise RuleError(f"a rule's name is lower-case words with dashes, got {name!r}; e.g. {plain or 'my-rule'}")
    path, test = _paths(name, folder)
    known = {rule.name: rule for rule in shipped()}
    if name in known:
        raise RuleError(f"there is a rule {name} at {known[name].where}; choose another name")
    for each in (path, test):
        if each.exists():
            raise RuleError(f"{each} exists; choose another name, or another folder with --in")
    up = "" if test.parent == path.parent else ".parent"
    file = path.name if test.parent == path.parent else f"{path.parent.name}/{path.name}"
    words = {"name": name, "function": name.replace("-", "_"), "file": file, "up": up}
    for each, text in ((path, _RULE), (test, _TEST)):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text(text.substitute(words))
    return path, test


def _paths(name: str, folder: Path | None) -> tuple[Path, Path]:
    file = f"{name.replace('-', '_')}.py"
    checkout = shipped_folder().parent
    if folder is None and (checkout / "tests").is_dir() and Path.cwd().is_relative_to(checkout):
        return shipped_folder() / file, checkout / "tests" / f"test_{file}"
    folder = (folder or Path()).resolve()
    return folder / file, folder / f"test_{file}"
