"""Rule files with a mistake in them, and what must be said about it."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from qegraph.errors import RuleError
from qegraph.rule_files import load

HEADER = """
import math
from qegraph.lang import *
from qegraph.lang.rule import Guard, Rewrite
"""

Mistake = tuple[str, int, str]
"""The file below `HEADER`; the line that is named, counted from 1 there; a pattern, where FILE is the file:line."""


def refused(mistake: Mistake, folder: Path) -> None:
    """Assert that the file can't be loaded, and that the message is as it should be."""
    text, line, wanted = mistake
    path = folder / "mine.py"
    path.write_text(HEADER + dedent(text).lstrip("\n"))
    with pytest.raises(RuleError) as raised:
        load([path])
    place = f"{path}:{len(HEADER.splitlines()) + line}"
    assert re.search(wanted.replace("FILE", re.escape(place)), str(raised.value)), str(raised.value)
