"""`Tables`: the frozen e-graph as patterns and guards read it, all values in plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from qegraph.freeze import Freezer
from qegraph.program import Program
from qegraph.snapshot import ClassRef, Data, ENode, Snapshot

_NONE: Mapping[tuple[Any, ...], Any] = {}


class Tables:
    """E-nodes by e-class and word, functions and relations by name.

    symbols  id of a symbolic dim, negative -> its expression.
    """

    def __init__(self, freezer: Freezer, snapshot: Snapshot, symbols: Mapping[int, str]) -> None:
        self.program: Program = freezer.program
        self.snapshot = snapshot
        self.symbols = symbols
        self.value_class = freezer.value_class
        self._freezer = freezer
        self._rows: dict[str, Mapping[tuple[Any, ...], Any]] = {}

    def rows(self, name: str) -> Mapping[tuple[Any, ...], Any]:
        """arguments -> value of a function, None for a relation; empty if there is no such table."""
        if name not in self._rows:
            self._rows[name] = self._freezer.rows(name)
        return self._rows.get(name, _NONE)

    def is_function(self, name: str) -> bool:
        """There is a table of this name, and its rows have values."""
        table = self._freezer.tables.get(name)
        return table is not None and not table.is_relation

    def forms(self, value: Any, word: str) -> Iterator[tuple[Any, ...]]:
        """The operands of all terms with this word that `value` is."""
        if isinstance(value, Data):
            if value.name == word:
                yield value.args
        elif isinstance(value, ClassRef):
            for index in self._by_word.get((value.number, word), ()):
                yield self.snapshot.nodes[index].args

    def eclass(self, word: str, args: tuple[Any, ...]) -> ClassRef | None:
        """The e-class of a term, if it is in the e-graph."""
        number = self._by_term.get((word, args))
        return None if number is None else ClassRef(number)

    def words(self, eclass: int) -> tuple[str, ...]:
        """The words of the e-nodes of an e-class, each once."""
        return tuple(dict.fromkeys(node.op for node in self.members(eclass)))

    def members(self, eclass: int) -> Sequence[ENode]:
        """An e-class whose e-nodes a one-way rule has given up may have none."""
        classes = self.snapshot.classes
        return [self.snapshot.nodes[index] for index in classes[eclass]] if eclass < len(classes) else []

    def roots(self, word: str) -> Iterator[ClassRef]:
        """The e-classes with a term of this word."""
        for eclass, head in self._by_word:
            if head == word:
                yield ClassRef(eclass)

    def source(self, eclass: int) -> str | None:
        """The name of the first value of the program that is in the e-class."""
        indices = self.snapshot.sources.get(eclass)
        return self.program.values[indices[0]].name if indices else None

    def constant(self, eclass: int) -> torch.Tensor | None:
        """The parameter or buffer of the program that is in the e-class."""
        for index in self.snapshot.sources.get(eclass, ()):
            if self.program.values[index].kind == "constant":
                return self.program.constants[self.program.values[index].target]
        return None

    @cached_property
    def readers(self) -> Mapping[int, tuple[int, ...]]:
        """e-class -> the e-classes of source values that read it, in the order of the source."""
        found: defaultdict[int, dict[int, None]] = defaultdict(dict)
        for eclass in self.snapshot.sources:
            for node in self.members(eclass):
                for child in node.children:
                    found[child][eclass] = None
        return {eclass: tuple(each) for eclass, each in found.items()}

    @cached_property
    def _by_word(self) -> Mapping[tuple[int, str], list[int]]:
        found: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for node in self.snapshot.nodes:
            found[node.eclass, node.op].append(node.index)
        return dict(found)

    @cached_property
    def _by_term(self) -> Mapping[tuple[str, tuple[Any, ...]], int]:
        return {(node.op, node.args): node.eclass for node in self.snapshot.nodes}
