"""Every mistake in a rule is refused where it is made, in words: rule, file:line, what was expected, what is near."""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import Mistake, refused

from qegraph.errors import WordError
from qegraph.lang import Tensor, dequantize

MISTAKES: dict[str, Mistake] = {
    "unbound on the right": (
        '''
        @rule
        def lost(x: Tensor, y: Tensor) -> Rewrite:
            """f(x) = x + y"""
            return rewrite(unary(relu(), x)).to(add(x, y))
        ''',
        1,
        r"rule lost at FILE: y \(Tensor\) stands on the right side only, so nothing binds it; it must occur on",
    ),
    "unbound dims, with the guard that binds them": (
        '''
        @rule
        def lost(x: Tensor, s: Dims) -> Rewrite:
            """f(x) = view(x)"""
            return rewrite(unary(relu(), x)).to(move(view(s), x))
        ''',
        1,
        r"s \(Dims\) stands on the right side only.*such as shape_is\(x, s\)",
    ),
    "unbound in a guard": (
        '''
        @rule
        def lost(x: Tensor, y: Tensor) -> Rewrite:
            """f(x) = x"""
            return rewrite(unary(relu(), x)).to(x).when(same_shape(x, y))
        ''',
        1,
        r"y \(Tensor\) stands in guard same-shape only, so nothing binds it",
    ),
    "a guard about something that is no parameter": (
        '''
        @rule
        def lost(xs: Tensor) -> Rewrite:
            """f(x) = x"""
            return rewrite(unary(relu(), xs)).to(xs).when(is_constant(Tensor("x")))
        ''',
        1,
        r"guard is-constant: fact `\(constant x\)`: x is bound nowhere; did you mean xs\?",
    ),
    "unused": (
        '''
        @rule
        def lost(x: Tensor, y: Tensor) -> Rewrite:
            """f(x) = x"""
            return rewrite(unary(relu(), x)).to(x)
        ''',
        1,
        r"y \(Tensor\) stands nowhere",
    ),
    "an operand of another sort": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """dq(x) = x"""
            return rewrite(
                dequantize(x, 3, "float32")
            ).to(x)
        ''',
        5,
        r"rule wrong at FILE: dequantize: operand 2, q, must be QParams, got 3 \(int\); QParams are made by",
    ),
    "a variable of another sort": (
        '''
        @rule
        def wrong(x: Tensor, q: Dims) -> Rewrite:
            """dq(x) = x"""
            return rewrite(dequantize(x, q, "float32")).to(x)
        ''',
        4,
        r"dequantize: operand 2, q, must be QParams, got q \(Dims\)",
    ),
    "a number among tensors": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """x + 1 = x"""
            return rewrite(add(x, 1.0)).to(x)
        ''',
        4,
        r"add: operand 2, y, must be Tensor, got 1.0 \(float\); a number among tensors is scalar\(1.0\)",
    ),
    "an integer among floats": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """clamp(x) = x"""
            return rewrite(unary(clamp(0, 6.0), x)).to(x)
        ''',
        4,
        r"fn: operand 2, a, must be Number, got 0 \(int\); write 0.0",
    ),
    "a word that isn't called": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu, x)).to(x)
        ''',
        4,
        r"unary: operand 1, f, must be UnaryFn, got the function relu; a word is called: relu\(\)",
    ),
    "an operand too few": (
        '''
        @rule
        def wrong(x: Tensor, q: QParams) -> Rewrite:
            """dq(x) = x"""
            return rewrite(dequantize(x, q)).to(x)
        ''',
        4,
        r"dequantize\(x: Tensor, q: QParams, dtype: Text\) takes 3 operands, by position; got 2: dtype missing",
    ),
    "an operand too many": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """x + x + x = x"""
            return rewrite(add(x, x, x)).to(x)
        ''',
        4,
        r"add\(x: Tensor, y: Tensor\) takes 2 operands, by position; got 3",
    ),
    "an operand by name": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """x + x = x"""
            return rewrite(add(x, y=x)).to(x)
        ''',
        4,
        r"by position; got y=: leave the name out",
    ),
    "an unknown word": (
        '''
        @rule
        def wrong(x: Tensor, q: QParams) -> Rewrite:
            """dq(x) = x"""
            return rewrite(dequantise(x, q, "float32")).to(x)
        ''',
        4,
        r"rule wrong at FILE: there is no dequantise; did you mean dequantize\?",
    ),
    "an unknown import": (
        """
        from qegraph.lang import dequantise
        """,
        1,
        r"rule file FILE: the rule language has no dequantise; did you mean dequantize\?",
    ),
    "an unknown function of numbers": (
        '''
        @rule
        def wrong(x: Tensor, a: Number) -> Rewrite:
            """x a = x log a"""
            return rewrite(mul(x, scalar(a))).to(mul(x, scalar(Number.of("mxa", a, a))))
        ''',
        1,
        r"mxa on the right side is no word and no function; did you mean max\?",
    ),
    "right side of another sort": (
        '''
        @rule
        def wrong(x: Tensor, q: QParams) -> Rewrite:
            """quantize(x, q) = q"""
            return rewrite(quantize(x, q)).to(q)
        ''',
        4,
        r"\.to\(\.\.\.\) must be a Tensor, as the left side is, got q \(QParams\)",
    ),
    "a left side that is everything": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """x = x + 0"""
            return rewrite(x).to(add(x, scalar(0.0)))
        ''',
        4,
        r"rewrite\(x\) would match every value; the left side must be a word",
    ),
    "a left side of another sort": (
        '''
        @rule
        def wrong(q: QParams) -> Rewrite:
            """q = 0"""
            return rewrite(q).to(scalar(0.0))
        ''',
        4,
        r"rewrite\(\.\.\.\) must be a Tensor, got q \(QParams\)",
    ),
    "no docstring": (
        """
        @rule
        def wrong(x: Tensor) -> Rewrite:
            return rewrite(unary(relu(), x)).to(x)
        """,
        1,
        r"rule wrong at FILE: it has no docstring; expected its law in one line",
    ),
    "no annotation": (
        '''
        @rule
        def wrong(x) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x)
        ''',
        1,
        r"parameter x needs a sort, e.g. `x: Tensor`; there are Tensor, QParams, Kind",
    ),
    "Python's own sort": (
        '''
        @rule
        def wrong(x: Tensor, a: float) -> Rewrite:
            """x a = x"""
            return rewrite(mul(x, scalar(a))).to(x)
        ''',
        1,
        r"parameter a is annotated float, which is no sort of the rule language; did you mean Number\?",
    ),
    "torch's Tensor": (
        '''
        import torch
        @rule
        def wrong(x: torch.Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x)
        ''',
        2,
        r"import Tensor from qegraph.lang, this one is of torch",
    ),
    "a misspelt sort": (
        '''
        @rule
        def wrong(x: "Tensr") -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x)
        ''',
        1,
        r"rule wrong at FILE: there is no Tensr; did you mean Tensor\?",
    ),
    "a default": (
        '''
        @rule
        def wrong(x: Tensor, f: UnaryFn = relu()) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(f, x)).to(x)
        ''',
        1,
        r"parameter f has a default; a pattern variable stands for any value",
    ),
    "any number of parameters": (
        '''
        @rule
        def wrong(*xs: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), xs[0])).to(xs[0])
        ''',
        1,
        r"\*xs.* is no pattern variable; write them out",
    ),
    "a name that isn't kebab-case": (
        '''
        @rule
        def FuseRelu(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x)
        ''',
        1,
        r"a rule's name is lower-case words; name the function fuse_relu",
    ),
    "one name twice": (
        '''
        @rule
        def twice(x: Tensor) -> Rewrite:
            """relu(x) = x"""
            return rewrite(unary(relu(), x)).to(x)

        @rule
        def twice(x: Tensor) -> Rewrite:
            """x + x = x"""
            return rewrite(add(x, x)).to(x)
        ''',
        2,
        r"two rules are named twice: FILE and .*:\d+; rename one",
    ),
    "Python's plus": (
        '''
        @rule
        def wrong(x: Tensor, y: Tensor) -> Rewrite:
            """x + y = x"""
            return rewrite(x + y).to(x)
        ''',
        4,
        r"`x \+ y` is Python's, on terms; write add\(x, y\)",
    ),
    "Python's times, with a number": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """2 x = x"""
            return rewrite(2 * x).to(x)
        ''',
        4,
        r"`2 \* x` is Python's, on terms; write mul\(scalar\(2.0\), x\)",
    ),
    "Python's minus, on integers": (
        '''
        @rule
        def wrong(x: Tensor, z: Integer) -> Rewrite:
            """x[z :] = x"""
            return rewrite(part(x, z, 1)).to(part(x, z - 128, 1))
        ''',
        4,
        r'write Integer\.of\("-", z, 128\)',
    ),
    "Python's minus sign": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """-x = x"""
            return rewrite(-x).to(x)
        ''',
        4,
        r'write unary\(named\("neg"\), x\)',
    ),
    "Python's if": (
        '''
        @rule
        def wrong(x: Tensor, z: Integer) -> Rewrite:
            """x[z :] = x"""
            return rewrite(part(x, z, 1)).to(x if z > 0 else part(x, 0, 1))
        ''',
        4,
        r"`z > 0` is Python's, on terms; what must hold is a guard",
    ),
    "whether a term is true": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """-x = x"""
            return rewrite(unary(relu(), x or x)).to(x)
        ''',
        4,
        r"`x` is asked whether it is true; what must hold is a guard",
    ),
    "a shape asked for": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """-x = x"""
            return rewrite(move(view(x.shape), x)).to(x)
        ''',
        4,
        r"a term has no shape: it stands for any value; a guard says so: shape_is",
    ),
    "an index": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """-x = x"""
            return rewrite(unary(relu(), x[0])).to(x)
        ''',
        4,
        r"`x\[0\]` is Python's, on a term",
    ),
    "a term taken apart": (
        '''
        @rule
        def wrong(x: Tensor) -> Rewrite:
            """-x = x"""
            first, second = x
            return rewrite(add(first, second)).to(x)
        ''',
        4,
        r"`x` is asked for its items",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, tmp_path: Path) -> None:
    refused(MISTAKES[mistake], tmp_path)


def test_words_refuse_outside_rules_too() -> None:
    x = Tensor("x")
    with pytest.raises(WordError, match="operand 2, q, must be QParams"):
        dequantize(x, 3, "float32")  # pyright: ignore[reportArgumentType]
