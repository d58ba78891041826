"""Mistakes in guards, in what a rule's function returns, and in files of rules: see `test_rule_errors`."""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import Mistake, refused

from qegraph.errors import RuleError
from qegraph.lang import Tensor, add, is_constant, rewrite, rule
from qegraph.lang.rule import Guard, Rewrite
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


def test_guards_share_the_variables_they_bind() -> None:
    first = Guard("first", "it must have a place", ("(= j (place x))",))
    second = Guard("second", "its place must be one", ("(= (N j) x)",))

    @rule
    def shares(x: Tensor) -> Rewrite:
        """x + x = x"""
        return rewrite(add(x, x)).to(x).when(first, second, is_constant(x))

    assert [guard.name for guard in shares.guards] == ["first", "second", "is-constant"]
