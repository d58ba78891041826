"""Errors a user can meet. Each message says what was expected, what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class QegraphError(Exception):
    """Base of every error raised on purpose by qegraph."""


class CaptureError(QegraphError):
    """The input can't be read: no shapes, not a graph, a malformed node."""


class RuleError(QegraphError):
    """A rule is malformed, or two rules contradict each other. Names the rule and where it is defined."""


class WordError(QegraphError, TypeError):
    """A word of the rule language is used wrongly. Inside a rule it becomes a RuleError that names rule and line."""


class ConflictError(RuleError):
    """Two values that rules call equal differ in what all equal values share. fact  what that is: dtype, shape, ..."""

    def __init__(self, message: str, fact: str) -> None:
        super().__init__(message, fact)
        self.fact = fact

    def __str__(self) -> str:
        return str(self.args[0])


class RequirementError(QegraphError):
    """`require="int8"` was asked for and a quantized matmul or convolution stays float."""


class SaveError(QegraphError):
    """The module can't be written as data only."""


class LoadError(QegraphError):
    """The file isn't one of `qegraph.save`, is damaged, or was written for another version or CPU."""


class Unsupported(QegraphError):
    """The graph can't be optimised soundly; `optimize` returns it unchanged and reports this reason."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: "; did you mean X?", or nothing if no known name is near."""
    near = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
