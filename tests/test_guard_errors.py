"""Mistakes in guards, in what a rule's function returns, and in files of rules: see `test_rule_errors`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import net
from mistakes import Mistake, refused

import qegraph
from qegraph.encode import SORTS
from qegraph.engine import Engine
from qegraph.errors import RuleError
from qegraph.lang import Tensor, add, cast, is_constant, relu, rewrite, rule, unary
from qegraph.lang.relations import DECLARATIONS
from qegraph.lang.rule import Guard, Rewrite
from qegraph.lang.terms import CONSTRUCTORS
from qegraph.rule_files import load

MISTAKES: dict[str, Mistake] = {
    "a guard without a reason": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", " ", (f"(constant {x})",)))
        ''',
        4,
        r"rule wrong at FILE: guard odd has no reason; say in words what must hold",
    ),
    "a guard with a text for facts": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(constant {x})")))
        ''',
        4,
        r"guard odd: facts must be a tuple of texts, as in .*, got '\(constant x\)'",
    ),
    "a guard whose fact isn't closed": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(constant {x}",)))
        ''',
        1,
        r"rule wrong at FILE: guard odd: fact `\(constant x`: a \) is missing",
    ),
    "a guard closed too often": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(constant {x}))",)))
        ''',
        1,
        r"guard odd: fact `\(constant x\)\)`: there is a \) too many",
    ),
    "a text that isn't closed": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f'(= "int8 (dtype {x}))',)))
        ''',
        1,
        r"guard odd: fact .*: a text has no closing quote",
    ),
    "an unknown relation": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(constnat {x})",)))
        ''',
        1,
        r"fact `\(constnat x\)`: there is no relation, function or word constnat; did you mean constant\?",
    ),
    "a relation of another number of arguments": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(constant {x} {x})",)))
        ''',
        1,
        r"\(constant \.\.\.\) takes 1 arguments \(Tensor\), got 2",
    ),
    "a relation about another sort": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(positive {x})",)))
        ''',
        1,
        r"\(positive \.\.\.\): argument 1 must be QParams, got x \(Tensor\)",
    ),
    "two sorts compared": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(Guard("odd", "it must be odd", (f"(= 8 (dtype {x}))",)))
        ''',
        1,
        r"\(= \.\.\.\) compares two sorts: 8 \(Integer\) and \(dtype x\) \(Text\)",
    ),
    "when of a tuple": (
        '''
        @rule
        def wrong(x: Tensor, q: QParams) -> Rewrite:
            """dq(x) = x"""
            return rewrite(dequantize(x, q, "float32")).to(x).when(kernel_reads_activation("linear", x, q))
        ''',
        4,
        r"\.when\(\.\.\.\): argument 1 must be a guard, got a tuple; .* put a star before it",
    ),
    "when of a comparison": (
        '''
        @rule
        def wrong(x: Tensor, y: Tensor) -> Rewrite:
            """x + y = x"""
            return rewrite(add(x, y)).to(x).when(is_constant(x), x == y)
        ''',
        4,
        r"argument 2 must be a guard, got False, which Python found out about the variables themselves",
    ),
    "when of a guard that isn't called": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(is_constant)
        ''',
        4,
        r"must be a guard, got the function is_constant; a guard is called with what it is about",
    ),
    "a function that raises": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            share = 1 / 0
            return rewrite(unary(relu(), x)).to(x)
        ''',
        4,
        r"rule wrong at FILE: its function raises ZeroDivisionError: division by zero",
    ),
    "nothing returned": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            rewrite(unary(relu(), x)).to(x)
        ''',
        1,
        r"it returns nothing; expected `return rewrite\(left\)\.to\(right\)`",
    ),
    "half a rewrite": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x))
        ''',
        1,
        r"rewrite\(\(Unary .* x\)\) has no right side; write rewrite\(left\)\.to\(right\)",
    ),
    "a term returned": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return add(x, x)
        ''',
        1,
        r"it must return rewrite\(left\)\.to\(right\), got \(Add x x\) \(Tensor\)",
    ),
    "a file that doesn't parse": (
        """
        def wrong(:
        """,
        1,
        r"rule file FILE: SyntaxError: ",
    ),
    "a file that fails": (
        """
        import no_such_module
        """,
        1,
        r"rule file FILE: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "a constant of another sort": (
        """
        FLOAT = real(32)
        """,
        1,
        r"rule file FILE: real: operand 1, dtype, must be Text, got 32 \(int\)",
    ),
    "a file without rules": ("X = 1", 0, r"defines no rules; a rule is a function under `@rule`"),
    "a rule that is no function": (
        """
        rule(3)
        """,
        1,
        r"@rule stands before a function `def name\(x: Tensor, \.\.\.\) -> Rewrite`, got 3",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, tmp_path: Path) -> None:
    refused(MISTAKES[mistake], tmp_path)


def test_a_word_that_isn_t_imported(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("FLOAT = real('float32')")
    with pytest.raises(RuleError, match=r"mine\.py:1: real isn't imported; write `from qegraph.lang import real`"):
        load([path])


REFUSED = {
    "(rule ((= x (Add y z)) (constnat y)) ((union x y)) :ruleset r)": "no relation, function or word constnat; did you",
    "(rule ((= x (Add y z)) (positive y)) ((union x y)) :ruleset r)": "`y` stands where QParams is expected, and is",
    "(rule ((= x (Add y z)) (constant y z)) ((union x y)) :ruleset r)": r"`\(constant y z\)` must have 1 arguments",
    "(rule ((= x (Add y z))) ((union x w)) :ruleset r)": "w is bound nowhere",
    "(rule ((= x (Add y z)) (< n 3)) ((union x y)) :ruleset r)": "is bound nowhere: no left side and no fact says",
    "(rule ((= x (Add y z)) ((union x y)) :ruleset r)": "it can't be read: unexpected end of file",
    '(rule ((= x (Add y z)) (= 3.0 (+ 1 "a"))) ((union x y)) :ruleset r)': "`1` stands where Text is expected",
    "(run-schedule (run nothing))": "it can't be run; the engine's own message is the cause of this error",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_egglog_refuses_in_our_words(statement: str) -> None:
    engine = Engine()
    for line in (
        *SORTS,
        *(each.declaration for each in CONSTRUCTORS.values()),
        *DECLARATIONS.split("\n"),
        "(ruleset r)",
    ):
        if line:
            engine.run(line)
    with pytest.raises(RuleError, match=REFUSED[statement]) as raised:
        engine.run(statement, "of rule mine at mine.py:3")
    assert "of rule mine at mine.py:3" in str(raised.value) and raised.value.__cause__ is not None


def test_rules_that_contradict_each_other() -> None:
    @rule
    def halved(x: Tensor) -> Rewrite:
        """relu(x) = relu(x), in half precision"""
        return rewrite(unary(relu(), x)).to(cast(x, "float16"))

    x = torch.randn(4)
    gm = net(lambda x: torch.relu(x), [], [x])
    with pytest.raises(RuleError, match=r"rule halved \(.*\) says that .*float32 of one and float16 of the other"):
        qegraph.optimize(gm, rules=["default", halved])


def test_guards_share_the_variables_they_bind() -> None:
    first = Guard("first", "it must have a place", ("(= j (place x))",))
    second = Guard("second", "its place must be one", ("(= (N j) x)",))

    @rule
    def shares(x: Tensor) -> Rewrite:
        """x + x = x"""
        return rewrite(add(x, x)).to(x).when(first, second, is_constant(x))

    assert [guard.name for guard in shares.guards] == ["first", "second", "is-constant"]
