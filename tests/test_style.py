"""Formatting, lint and strict types, by the tools and settings of pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

CHECKS = {
    "format": ["ruff", "format", "--check", "qegraph", "rules", "tests", "notebooks"],
    "lint": ["ruff", "check", "qegraph", "rules", "tests", "notebooks"],
    "types": ["basedpyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("check", CHECKS)
def test_clean(check: str) -> None:
    program, *arguments = CHECKS[check]
    run = subprocess.run([sys.executable, "-m", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
