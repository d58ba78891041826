"""The matrix: every family's cells. Importing a module here enters its families."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from qegraph.coverage.cell import FAMILIES, Cell

for _module in (
    "attention", "binary", "codes", "defects", "defects_of_shape", "dynamic", "float8", "half", "norm_pool", "packed",
    "products", "unary",
):  # fmt: skip
    import_module(f"{__name__}.{_module}")


def _order(name: str) -> tuple[int, int]:
    """F1 to F33, then what goes beyond them, then D1 to D14."""
    number = int(name[1:]) if name[1:].isdigit() else 0
    return {"F": 0, "D": 2}.get(name[0] if number else "", 1), number


NAMES = tuple(sorted(FAMILIES, key=_order))


def cells(families: Sequence[str] = NAMES) -> list[Cell]:
    """The cells of these families."""
    return [cell for name in families for cell in FAMILIES[name].cells()]
