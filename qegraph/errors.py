"""Errors a user can meet. Each message says what was expected, what was found, where, and what to do."""

from __future__ import annotations


class QegraphError(Exception):
    """Base of every error raised on purpose by qegraph."""


class CaptureError(QegraphError):
    """The input can't be read: no shapes, not a graph, a malformed node."""


class RuleError(QegraphError):
    """A rule is malformed, or two rules contradict each other. Names the rule and where it is defined."""


class RequirementError(QegraphError):
    """`require="int8"` was asked for and a quantized matmul or convolution stays float."""


class Unsupported(QegraphError):
    """The graph can't be optimised soundly; `optimize` returns it unchanged and reports this reason."""
