"""What qegraph says to `TORCH_LOGS`: stages with their times at info, applied rules at debug.

`TORCH_LOGS="qegraph"` shows the first, `TORCH_LOGS="+qegraph"` both.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping

from qegraph._torch import register_log
from qegraph.report import Report

LOGGER = logging.getLogger("qegraph")


def log_stages(seconds: Mapping[str, float]) -> None:
    """One line, with the time of each stage so far (s)."""
    LOGGER.info("%s", ", ".join(f"{stage} {each * 1e3:.1f} ms" for stage, each in seconds.items()))


def log_rules(report: Report) -> None:
    """A line for each rule applied on the way to an emitted graph: the source nodes it took, what they became."""
    if not LOGGER.isEnabledFor(logging.DEBUG):
        return
    taken: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, fate in report.fate.items():
        for rule in fate.rules:
            taken[", ".join(fate.into) or "nothing", rule].append(name)
    for (into, rule), names in taken.items():
        LOGGER.debug("%s: %s -> %s", rule, ", ".join(names), into)


register_log("qegraph", "qegraph")
