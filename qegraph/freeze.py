"""Saturated e-graph -> `Snapshot` and the evidence: which rule made which e-node, from which source values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from qegraph.compile_rules import match_table, orders
from qegraph.engine import Engine, Row, Table
from qegraph.evidence import Evidence, Step
from qegraph.lang.primitives import PRIMITIVES
from qegraph.lang.rule import Rule
from qegraph.lang.terms import CONSTRUCTORS, Expr
from qegraph.program import Program, Ref, map_refs
from qegraph.snapshot import ClassRef, Data, ENode, Snapshot

_DATA_SORTS = ("Q", "K", "F", "M")


@dataclass(frozen=True)
class Match:
    """One time an equality of a rule held.

    eclass  both sides are in.
    left    all e-nodes of the left side, in any of its orders, operands first.
    right   all e-nodes of the right side, operands first; none if it is a variable.
    used    e-classes of the left side's terms, `eclass` first.
    renames the right side is a variable: the e-class is that of an operand, whose e-nodes stand for it.
    """

    rule: Rule
    eclass: int
    left: tuple[int, ...]
    right: tuple[int, ...]
    used: tuple[int, ...]
    renames: bool


class Freezer:
    """Decodes the tables of one engine. E-classes are numbered by the first source value they hold."""

    def __init__(self, engine: Engine, program: Program) -> None:
        self.engine = engine
        self.program = program
        self.tables = engine.tables()
        self.numbers: dict[Any, int] = {}
        self.sources: defaultdict[int, list[int]] = defaultdict(list)
        aliases = sorted(self.tables["N"].rows, key=lambda row: engine.plain(row[0][0], "i64"))
        self._aliases: dict[int, Any] = {}
        for inputs, output in aliases:
            number = self.numbers.setdefault(output, len(self.numbers))
            index = engine.plain(inputs[0], "i64")
            self.sources[number].append(index)
            self._aliases[index] = output
        self.value_class = {index: number for number, indices in self.sources.items() for index in indices}
        self._data = {
            (table.output_sort, row[1]): (name, table, row)
            for name, table in self._words()
            if table.output_sort in _DATA_SORTS
            for row in table.rows
        }
        self._decoded: dict[Any, Any] = {}
        self._literals: dict[tuple[str, Any], Any] = {}
        self._vectors: dict[tuple[Any, ...], Any] = {}
        self.index_of: dict[tuple[str, tuple[Any, ...]], int] = {}
        self.given: frozenset[int] = frozenset()

    def _words(self) -> list[tuple[str, Table]]:
        return [(name, self.tables[name]) for name in CONSTRUCTORS if name in self.tables]

    def snapshot(self, source: Iterable[Expr] = ()) -> Snapshot:
        """source: the terms of the program's values. Their e-nodes come first: of forms that cost the same, the
        program's own is the one extracted, so that what is optimal stays as it is.
        """
        nodes: list[ENode] = []
        for name, table in self._words():
            if table.output_sort != "T":
                continue
            for row in table.rows:
                nodes.append(self._node(len(nodes), name, table, row))
        nodes = self._given_first(nodes, source)
        classes: list[list[int]] = [[] for _ in self.numbers]
        for node in nodes:
            classes[node.eclass].append(node.index)
        return Snapshot(
            nodes=tuple(nodes),
            classes=tuple(tuple(each) for each in classes),
            roots=tuple(dict.fromkeys(self._roots())),
            shape=self._facts("shape", "Dims"),
            dtype=self._facts("dtype", "String"),
            constants=frozenset(
                self.numbers[row[0][0]] for row in self.tables["constant"].rows if row[0][0] in self.numbers
            ),
            sources={number: tuple(each) for number, each in self.sources.items()},
        )

    def _given_first(self, nodes: Sequence[ENode], source: Iterable[Expr]) -> list[ENode]:
        """The e-nodes of these terms before the others, numbered by their new places."""
        found: list[int] = []
        for term in source:
            self._evaluate(term, {}, found, [])
        given = frozenset(found)
        order = sorted(range(len(nodes)), key=lambda index: (index not in given, index))
        place = {index: position for position, index in enumerate(order)}
        self.index_of = {key: place[index] for key, index in self.index_of.items()}
        self.given = frozenset(range(len(given)))
        return [replace(nodes[index], index=position) for position, index in enumerate(order)]

    def _roots(self) -> list[int]:
        found: list[int] = []

        def visit(item: Any) -> Any:
            if isinstance(item, Ref):
                found.append(self.value_class[item.index])
            return item

        map_refs(self.program.output, visit)
        return found + [self.value_class[index] for index in self.program.effects]

    def _node(self, index: int, name: str, table: Table, row: Row) -> ENode:
        inputs, output = row
        children: dict[int, None] = {}
        args = tuple(self._decode(value, sort, children) for value, sort in zip(inputs, table.input_sorts, strict=True))
        self.index_of[name, inputs] = index
        return ENode(index, self._number(output), name, args, tuple(children))

    def _number(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))

    def _decode(self, value: Any, sort: str, children: dict[int, None]) -> Any:
        if sort == "T":
            number = self._number(value)
            children[number] = None
            return ClassRef(number)
        if sort == "TVec":
            items = self.engine.plain(value, "TVec")
            self._vectors[items] = value
            return tuple(self._decode(each, "T", children) for each in items)
        if sort in _DATA_SORTS:
            return self._decode_data(value, sort, children)
        key = (sort, value)
        if key not in self._decoded:
            plain = self._decoded[key] = self.engine.plain(value, sort)
            self._literals[sort, plain] = value
        return self._decoded[key]

    def _decode_data(self, value: Any, sort: str, children: dict[int, None]) -> Data:
        key = (sort, value)
        if key not in self._decoded:
            name, table, (inputs, _) = self._data[key]
            inner: dict[int, None] = {}
            args = tuple(self._decode(each, s, inner) for each, s in zip(inputs, table.input_sorts, strict=True))
            self._decoded[key] = (Data(name, args), tuple(inner))
        data, inner_children = self._decoded[key]
        children.update(dict.fromkeys(inner_children))
        return data

    def _facts(self, name: str, sort: str) -> dict[int, Any]:
        return {
            self.numbers[inputs[0]]: self.engine.plain(output, sort)
            for inputs, output in self.tables[name].rows
            if inputs[0] in self.numbers
        }

    def pairs(self, name: str) -> Iterator[tuple[int, int]]:
        """The rows of a relation of two values, as e-classes."""
        for (left, right), _ in self.tables[name].rows:
            yield self._number(left), self._number(right)

    # -- evidence ------------------------------------------------------------------------------------------------------

    def evidence(self, rules: Sequence[Rule]) -> Evidence:
        """What made each e-node of the snapshot, by all recorded matches."""
        rule_names: defaultdict[int, dict[str, None]] = defaultdict(dict)
        matched: defaultdict[int, dict[int, None]] = defaultdict(dict)
        steps: defaultdict[int, dict[str, Step]] = defaultdict(dict)
        merges: defaultdict[int, dict[str, Step]] = defaultdict(dict)
        for match in (match for rule in rules for match in self.matches(rule)):
            name = match.rule.name
            step = Step(name, tuple(dict.fromkeys(match.left)), tuple(dict.fromkeys(match.used)))
            for index in match.right:
                rule_names[index][name] = None
                matched[index].update(dict.fromkeys(match.used))
                steps[index].setdefault(name, step)
            if match.renames:
                merges[match.eclass].setdefault(name, step)
        return Evidence(
            {index: (tuple(names), tuple(matched[index])) for index, names in rule_names.items()},
            {index: tuple(each.values()) for index, each in steps.items()},
            {number: tuple(each.values()) for number, each in merges.items()},
            self.given,
        )

    def matches(self, rule: Rule) -> Iterator[Match]:
        """Both sides of every recorded match, evaluated over the frozen tables; one `Match` for each equality."""
        sides = [(orders(each.lhs), each.rhs) for each in rule.equalities]
        for inputs, _ in self.tables[match_table(rule)].rows:
            bound = dict(zip(rule.variables, inputs[len(sides) :], strict=True))
            for root, (lefts, rhs) in zip(inputs, sides, strict=False):
                right: list[int] = []
                self._evaluate(rhs, bound, right, [])
                used: list[int] = [self._number(root)]
                found: list[int] = []
                for left in lefts:
                    self._evaluate(left, bound, found, used)
                yield Match(rule, used[0], tuple(found), tuple(right), tuple(used), rhs.is_variable)

    @cached_property
    def _lookup(self) -> Mapping[tuple[str, tuple[Any, ...]], Any]:
        return {(name, inputs): output for name, table in self._words() for inputs, output in table.rows}

    def _evaluate(self, term: Any, bound: Mapping[str, Any], made: list[int], used: list[int]) -> Any:
        """The e-class of a template under a match, or None; notes the e-nodes and e-classes on the way."""
        if not isinstance(term, Expr):
            return _Literal(term)
        if term.args is None:
            return bound[term.head]
        if term.head == "N":
            return self._aliases[term.args[0]]
        values = [self._evaluate(arg, bound, made, used) for arg in term.args]
        if any(value is None for value in values):
            return None
        if term.sort == "TVec":
            return self._vectors.get(tuple(values))
        if term.head in PRIMITIVES:
            return _Literal(PRIMITIVES[term.head](*map(self._plain, values, term.args)))
        table = self.tables.get(term.head)
        if table is None:
            return None
        inputs = self._inputs(values, table)
        output = self._lookup.get((term.head, inputs)) if inputs is not None else None
        if output is not None and table.output_sort == "T":
            index = self.index_of.get((term.head, inputs or ()))
            made.extend([index] if index is not None else [])
            used.append(self._number(output))
        return output

    def _plain(self, value: Any, term: Any) -> Any:
        """The Python value of an evaluated operand of a primitive."""
        return value.value if isinstance(value, _Literal) else self.engine.plain(value, term.sort)

    def _inputs(self, values: list[Any], table: Table) -> tuple[Any, ...] | None:
        """Row inputs, or None if a literal of the template stands in no e-node."""
        found = [
            self._literals.get((sort, value.value)) if isinstance(value, _Literal) else value
            for value, sort in zip(values, table.input_sorts, strict=True)
        ]
        return None if any(value is None for value in found) else tuple(found)

    def rows(self, name: str) -> Mapping[tuple[Any, ...], Any]:
        """A function or relation, decoded as e-nodes are: arguments -> value (None in a relation); empty if absent."""
        table = self.tables.get(name)
        if table is None:
            return {}
        return {
            tuple(self._decode(each, sort, {}) for each, sort in zip(inputs, table.input_sorts, strict=True)): None
            if table.is_relation
            else self._decode(output, table.output_sort, {})
            for inputs, output in table.rows
        }


@dataclass(frozen=True, slots=True)
class _Literal:
    value: Any
