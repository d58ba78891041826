"""BUGS.md: every script in it runs on its own, and shows the reference wrong and us right."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import full_range

TEXT = Path(__file__).with_name("BUGS.md").read_text()
SCRIPTS = dict(re.findall(r"^## (D\d+) .*?^```python\n(.*?)^```$", TEXT, re.M | re.S))
SLOW = re.compile(r"torch\.compile|\blower\(|MAX_CPU_ISA|subprocess")
"""What takes seconds, or a process of its own."""
QUICK = [name for name, script in SCRIPTS.items() if not SLOW.search(script)]
MOST_LINES = 25

RUN = """
import json, sys, torch
torch.set_num_threads(1)
for name, script in json.load(sys.stdin).items():
    torch.manual_seed(0)
    exec(compile(script, name, "exec"), {"__name__": name})
    print("ran", name, flush=True)
"""


def test_every_defect_has_a_script() -> None:
    numbers = re.findall(r"^## D(\d+) \S", TEXT, re.M)
    assert [int(each) for each in numbers] == list(range(1, len(numbers) + 1))
    assert len(SCRIPTS) == len(numbers) == TEXT.count("```python") and QUICK


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_two_halves(name: str) -> None:
    """The first imports nothing of ours; both can fail."""
    script = SCRIPTS[name]
    assert sum(bool(line.strip()) for line in script.splitlines()) <= MOST_LINES
    theirs, ours = script.split("import qegraph\n")
    for half in (theirs, ours):
        nodes = [*ast.walk(ast.parse(half))]
        calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        asserts = any(isinstance(node, ast.Assert) for node in nodes)
        assert asserts or "AssertionError" in calls or "torch.testing.assert_close" in calls
    imported = re.findall(r"^(?:import|from) (\w+)", theirs, re.M)
    assert {"torch", "torchao", *sys.stdlib_module_names} >= set(imported) and "torch" in (*imported, *script.split())


@full_range
def test_the_quick_ones() -> None:
    """All in one process."""
    _run({name: SCRIPTS[name] for name in QUICK})


@full_range
@pytest.mark.zoo
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in QUICK])
def test_the_others(name: str) -> None:
    _run({name: SCRIPTS[name]})


def _run(scripts: dict[str, str]) -> None:
    command = [sys.executable, "-c", RUN]
    run = subprocess.run(command, input=json.dumps(scripts), capture_output=True, text=True, check=False)
    assert re.findall(r"^ran (\w+)$", run.stdout, re.M) == list(scripts), run.stderr[-2000:]
