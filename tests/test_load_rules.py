"""Where rules come from: names, files, folders, modules and packs; files and cells that are edited meanwhile."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from builders import Linear, dq, has, net

import qegraph
from qegraph.errors import RuleError
from qegraph.lang.rule import Rule
from qegraph.load_rules import by_name, select, shipped

RULE = '''
from qegraph.lang import Tensor, rewrite, rule, scalar, mul, is_floating
from qegraph.lang.rule import Rewrite

@rule
def {name}(x: Tensor) -> Rewrite:
    """x {factor} = x"""
    return rewrite(mul(x, scalar({factor}))).to(x).when(is_floating(x))
'''


def written(folder: Path, name: str, factor: float = 1.0, file: str = "") -> Path:
    path = folder / (file or f"{name}.py")
    path.write_text(RULE.format(name=name, factor=factor))
    return path


def names(rules: Sequence[Rule]) -> list[str]:
    return [rule.name for rule in rules]


EXACT = [rule.name for rule in shipped() if rule.exact]


def test_shipped_names_and_default() -> None:
    assert names(select(None)) == names(select(["default"])) == EXACT
    assert names(select(["gemm-int8"])) == ["gemm-int8"]
    assert names(select(["default", "gemm-int8"])) == EXACT
    off = next(rule.name for rule in shipped() if not rule.exact)
    assert names(select(["default", off])) == [*EXACT, off]
    assert names(select(["default", "-gemm-int8"])) == [name for name in EXACT if name != "gemm-int8"]


def test_a_rule_itself() -> None:
    rule = by_name("post-op")
    assert select([rule]) == (rule,)


def test_files_and_folders(tmp_path: Path) -> None:
    first, second = written(tmp_path, "one"), written(tmp_path, "two")
    written(tmp_path, "of_a_test", file="test_one.py")
    written(tmp_path, "private", file="_own.py")
    assert names(select([first, str(second)])) == ["one", "two"]
    assert names(select([tmp_path])) == names(select([str(tmp_path)])) == ["one", "two"]
    assert names(select([tmp_path, "-one"])) == ["two"]
    assert names(select([tmp_path, first])) == ["one", "two"]


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = written(tmp_path, "one")
    (before,) = select([path])
    assert select([path])[0] is before
    written(tmp_path, "one", 2.0)  # of one length, and within a second
    (after,) = select([path])
    assert after.law == "x 2.0 = x" and before.law == "x 1.0 = x"


def test_a_broken_edit_is_refused_and_its_repair_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "one")
    select([path])
    path.write_text("def")
    with pytest.raises(RuleError, match=r"one\.py:1: SyntaxError"):
        select([path])
    written(tmp_path, "one")
    assert names(select([path])) == ["one"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A folder on sys.path with the distribution `pack`, whose entry points are the given lines."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(points: str) -> None:
        info = tmp_path / "pack-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[qegraph.rules]\n{points}\n")

    return install


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test imports is forgotten after it."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "some_pack"
    package.mkdir()
    (package / "__init__.py").write_text("from some_pack.linear import one\nfrom qegraph.lang import rule\n")
    written(package, "one", file="linear.py")
    module = __import__("some_pack.linear").linear
    assert names(select([module])) == names(select(["some_pack.linear"])) == ["one"]
    assert names(select([sys.modules["some_pack"]])) == ["one"]


def test_an_installed_pack(tmp_path: Path, installed: Callable[[str], None], unloaded: None) -> None:
    written(tmp_path, "one", file="pack_of_one.py")
    installed("mine = pack_of_one\nsingle = pack_of_one:one\nwrong = pack_of_one:is_floating\ngone = pack_of_two")
    assert names(select(["pack:mine"])) == names(select(["pack:single"])) == ["one"]
    refuse("pack:wrong", r"rule pack wrong: pack_of_one:is_floating must be a module, a rule or a list of rules, got")
    refuse("pack:gone", r"rule pack gone \(pack_of_two\) can't be loaded: ModuleNotFoundError")
    refuse("pack:mime", r"no installed package has a rule pack mime .*: there are .*mine.*; did you mean mine\?")


def refuse(item: Any, wanted: str) -> None:
    with pytest.raises(RuleError) as raised:
        select([item])
    assert re.search(wanted, str(raised.value)), str(raised.value)


def test_what_names_no_rules_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "one")
    refuse(
        "gemm_int8", r"no shipped rule is named gemm_int8; did you mean gemm-int8\?; an item of rules is a Rule, the "
    )
    refuse("-gemm-int8", r'"-gemm-int8" takes away a rule that none of the items before it names; begin with "default"')
    refuse(str(tmp_path / "ome.py"), r"no rule file can be read at .*ome\.py: .*; did you mean one\.py\?")
    refuse(
        "no.such.module", r"rule module no\.such\.module can't be imported: .*a path ends in \.py or has a folder in it"
    )
    refuse(math_module(), r"module math defines no rules")
    refuse(3, r"3 \(int\) is not a way to name rules; expected a Rule, the name of a shipped rule")
    with pytest.raises(RuleError, match=r"did you mean gemm-int8\?"):
        select(["default", "-gemm-int9"])
    with pytest.raises(RuleError, match=r"rules must be a list, as in \['default'\]"):
        select("default")


def math_module() -> ModuleType:
    import math

    return math


def test_two_rules_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = written(tmp_path / "a", "one"), written(tmp_path / "b", "one")
    with pytest.raises(RuleError, match=r"two rules are named one: .*a/one\.py:5 and .*b/one\.py:5; rename one"):
        select([first, second])


def cell(number: int, factor: float) -> Rule:
    """What a notebook makes of a cell: no file, another name for each."""
    module: dict[str, Any] = {}
    exec(compile(RULE.format(name="mine", factor=factor), f"/tmp/ipykernel_1/{number}.py", "exec"), module)
    return module["mine"]


def test_a_cell_run_again_replaces_its_rule() -> None:
    first, again = cell(1, 1.0), cell(2, 2.0)
    assert select([first, again]) == (again,)
    notebook = ModuleType("__main__")
    vars(notebook)["mine"] = again
    assert select([notebook]) == (again,)


def test_optimize_with_rules_of_ones_own(tmp_path: Path) -> None:
    x = torch.randint(0, 255, (4, 24), dtype=torch.uint8)
    gm = net(lambda m, x: torch.sin(m(dq(x))) * 1.0, [Linear()], [x])
    assert has(qegraph.optimize(gm), "aten.mul") == 1
    path = written(tmp_path, "times_one")
    for items in (["default", path], ["default", str(path)], ["default", cell(3, 1.0)]):
        fast = qegraph.optimize(gm, rules=items)
        assert has(fast, "aten.mul") == 0
        assert torch.allclose(fast(x), gm(x), atol=1e-5)
    assert has(qegraph.optimize(gm, rules=["default", path, "-times-one"]), "aten.mul") == 1
