"""The only module that knows egglog's bindings: statements in, rounds run, plain tables out.

Text is parsed one statement at a time (a program in one string costs memory quadratic in its length); values are
inserted as built commands, in chunks. egglog runs on one thread: with more, e-class ids vary from run to run.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import egglog.bindings as egg

from qegraph.errors import ConflictError, RuleError
from qegraph.lang.terms import Expr
from qegraph.refusals import in_words

_SPAN = egg.RustSpan("", 0, 0)
_CHUNK = 200

Row = tuple[tuple[Any, ...], Any]
"""(inputs, output) of a table; values are opaque and hashable, unique within a sort."""


@dataclass(frozen=True)
class Table:
    input_sorts: tuple[str, ...]
    output_sort: str
    rows: tuple[Row, ...]

    @property
    def is_relation(self) -> bool:
        """Its rows have no value: egglog gives a relation an output sort of its own."""
        return self.output_sort.startswith("@")


class _Home(threading.local):
    """left: e-graphs of this thread that another one, collecting garbage, has let go of."""

    def __init__(self) -> None:
        self.left: list[Any] = []


_home = _Home()


class Engine:
    """An e-graph. Not to be shared between threads, nor freed by another one than it was made by: egglog refuses."""

    def __init__(self) -> None:
        self._thread, self._left = threading.current_thread(), _home.left
        self._left.clear()
        self._egraph = egg.EGraph()
        self._loads = 0

    def __del__(self) -> None:
        if self._thread is threading.current_thread():
            return
        if self._thread.is_alive():
            self._left.append(self._egraph)
        else:  # nobody can free it any more, not even as Python ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._egraph))

    def run(self, statement: str, where: str = "") -> list[Any]:
        """Parse and run one statement. Raises RuleError naming `where`."""
        try:
            return list(self._egraph.run_program(*self._egraph.parse_program(statement)))
        except BaseException as error:
            raise _translated(error, statement, where) from error

    def insert(self, terms: Iterable[tuple[int, Expr]]) -> None:
        """Make `(N i)` equal to each (i, term), operands before users."""
        batch: list[tuple[int, Expr]] = []
        for item in terms:
            batch.append(item)
            if len(batch) == _CHUNK:
                self._insert(batch)
                batch = []
        self._insert(batch)

    def _insert(self, batch: Sequence[tuple[int, Expr]]) -> None:
        actions = [egg.Union(_SPAN, _alias(index), _built(term)) for index, term in batch]
        self._act(actions)

    def set_facts(self, facts: Iterable[tuple[str, tuple[Any, ...], Any]]) -> None:
        """Set `function(arguments) = value` for each; a value of None adds a row to a relation."""
        actions: list[Any] = []
        for function, arguments, value in facts:
            built = [_built(argument) for argument in arguments]
            if value is None:
                actions.append(egg.Expr_(_SPAN, egg.Call(_SPAN, function, built)))
            else:
                actions.append(egg.Set(_SPAN, function, built, _built(value)))
        for start in range(0, len(actions), _CHUNK):
            self._act(actions[start : start + _CHUNK])

    def _act(self, actions: Sequence[Any]) -> None:
        if not actions:
            return
        name = f"load-{self._loads}"
        self._loads += 1
        try:
            self._egraph.run_program(
                egg.AddRuleset(_SPAN, name),
                egg.RuleCommand(egg.Rule(_SPAN, list(actions), [], name, name)),
                egg.RunSchedule(egg.Run(_SPAN, egg.RunConfig(name))),
            )
        except BaseException as error:
            raise _translated(error, name, "while the program was loaded") from error

    def step(self, ruleset: str, saturate: bool = False) -> bool:
        """Run the rules once, or to their fixpoint; did anything change?"""
        run = f"(run {ruleset})"
        outputs = self.run(f"(run-schedule {f'(saturate {run})' if saturate else run})")
        return any(output.report.updated for output in outputs)

    @contextmanager
    def aside(self) -> Generator[None]:
        """What is declared, inserted and run within is undone at its end: dearer to declare again than to copy."""
        self.run("(push)")
        try:
            yield
        finally:
            self.run("(pop)")

    def sizes(self) -> Mapping[str, int]:
        """Rows of each table."""
        return {name: rows for output in self.run("(print-size)") for name, rows in output.sizes}

    def tables(self) -> Mapping[str, Table]:
        """All tables as they are now."""
        found: dict[str, Table] = {}
        for name, function in self._egraph.freeze().functions.items():
            rows = tuple((tuple(row.inputs), row.output) for row in function.rows if not row.subsumed)
            found[name] = Table(tuple(function.input_sorts), function.output_sort, rows)
        return found

    def plain(self, value: Any, sort: str) -> Any:
        """The Python value of a primitive: int, float, str or a tuple of ints."""
        if sort == "i64":
            return self._egraph.value_to_i64(value)
        if sort == "f64":
            return self._egraph.value_to_f64(value)
        if sort == "String":
            return self._egraph.value_to_string(value)
        items = self._egraph.value_to_vec(value)
        return tuple(self._egraph.value_to_i64(item) for item in items) if sort == "Dims" else tuple(items)


def _alias(index: int) -> Any:
    return egg.Call(_SPAN, "N", [egg.Lit(_SPAN, egg.Int(index))])


def _built(term: Any) -> Any:
    if isinstance(term, Expr):
        return egg.Call(_SPAN, term.head, [_built(arg) for arg in term.args or ()])
    if isinstance(term, tuple):
        items = [_built(item) for item in term]
        return egg.Call(_SPAN, "vec-of", items) if items else egg.Call(_SPAN, "vec-empty", [])
    if isinstance(term, str):
        return egg.Lit(_SPAN, egg.String(term))
    if isinstance(term, float):
        return egg.Lit(_SPAN, egg.Float(term))
    return egg.Lit(_SPAN, egg.Int(int(term)))


def _translated(error: BaseException, statement: str, where: str) -> BaseException:
    """Rust panics are BaseExceptions; everything egglog says becomes a RuleError, everything else passes."""
    if isinstance(error, egg.EggSmolError) or type(error).__name__ == "PanicException":
        place = f" {where}" if where else ""
        message = f"the e-graph engine refused `{statement}`{place}: {in_words(str(error))}"
        conflict = re.search(r"Illegal merge attempted for function ([\w-]+)", str(error))
        return ConflictError(message, conflict[1]) if conflict else RuleError(message)
    return error
