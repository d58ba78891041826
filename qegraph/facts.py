"""Facts about e-classes that guards read: declarations, and the rules that derive them.

`dtype` and `shape` may never be set to two different values (`:no-merge`): an unsound rule is caught here.
"""

from __future__ import annotations

from collections.abc import Iterator

from qegraph.kernels import ACTIVATIONS, FLOATS, accepting, adds_in_32_bits, optional_kernels

DECLARATIONS = """
(function dtype (T) String :no-merge)
(function shape (T) Dims :no-merge)
(function rank (T) i64 :no-merge)
(function last-dim (T) i64 :no-merge)
(relation constant (T))
(relation below-128 (T))
(relation accumulates (T))
(relation bias-fits (T T))
(relation scales-fit (Q T))
(relation symmetric (Q))
(relation along-outputs (Q))
(relation per-tensor (Q))
(relation positive (Q))
(relation spans-dtype (Q))
(relation saturates-at-zero (Q))
(relation present (String))
(relation exact-here (T Q))
(relation from-accumulator (T))
(relation absorbs (T))
(relation float-dtype (String))
(relation half-dtype (String))
(relation stacks (T T))
(relation accepts (String String String String))
(relation reads (String String))
(function storage (Q) String :no-merge)
(function q-dtype (Q) String :no-merge)
(function kind-name (K) String :no-merge)
(function fn-name (F) String :no-merge)
(function dtype-low (String) i64 :no-merge)
(function dtype-high (String) i64 :no-merge)
"""

RANGES = {"uint8": (0, 255), "int8": (-128, 127)}

# Quantization parameters, kinds and functions.
_DATA = """
(= q (PerTensor s z lo hi d)) => (set (q-dtype q) d) (set (storage q) "codes") (per-tensor q) (along-outputs q)
(= q (PerTensor s z lo hi d)) (> s 0.0) (< s 1e30) => (positive q)
(= q (PerTensor s 0 lo hi d)) => (symmetric q)
(= q (PerTensor s z lo hi d)) (= lo (dtype-low d)) (= hi (dtype-high d)) => (spans-dtype q)
(= q (PerTensor s z lo hi d)) (= z lo) => (saturates-at-zero q)
(= q (PerChannel s z a lo hi d)) => (set (q-dtype q) d) (set (storage q) "codes-per-channel")
(= q (PerChannel s z 0 lo hi d)) => (along-outputs q)
(= q (Dynamic s z lo hi d)) => (set (q-dtype q) d) (set (storage q) "dynamic") (per-tensor q)
(= q (Dynamic s z lo hi d)) (= lo (dtype-low d)) (= hi (dtype-high d)) => (spans-dtype q)
(= q (Real d)) => (set (storage q) d)
(= q (Absent)) => (set (storage q) "absent")
(= k (Linear)) => (set (kind-name k) "linear")
(= k (Conv s p d g)) (= 1 (vec-length s)) => (set (kind-name k) "conv1d")
(= k (Conv s p d g)) (= 2 (vec-length s)) => (set (kind-name k) "conv2d")
(= k (Conv s p d g)) (= 3 (vec-length s)) => (set (kind-name k) "conv3d")
(= f (Fn n a b)) => (set (fn-name f) n)
"""

# Shapes and dtypes of values that rules introduce.
_TENSORS = """
(= s (shape x)) => (set (rank x) (vec-length s))
(= s (shape x)) (= n (vec-length s)) (> n 0) (= d (vec-get s (- n 1))) => (set (last-dim x) d)
(= e (Quantize x q)) (= s (shape x)) (= d (q-dtype q)) => (set (shape e) s) (set (dtype e) d)
(= e (Dequantize x q t)) (= s (shape e)) (= d (q-dtype q)) => (set (shape x) s) (set (dtype x) d)
(= e (Dequantize x q t)) (= s (shape x)) => (set (shape e) s) (set (dtype e) t)
(= e (Filled s v t)) => (set (shape e) s) (set (dtype e) t) (constant e)
(= e (Flip x)) (= s (shape x)) => (set (shape e) s) (set (dtype e) "uint8")
(= e (Unary f x)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Gemm (Linear) x w b)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (Cast x d)) (= s (shape x)) => (set (shape e) s) (set (dtype e) d)
(= e (Cast x d)) (= s (shape e)) => (set (shape x) s)
(= e (QGemm k x qx w qw b o qo f (Real d))) => (set (dtype e) d)
(= e (Add x y)) (= d (dtype x)) (= d (dtype y)) => (set (dtype e) d)
(= e (Add x y)) (= "float32" (dtype x)) (half-dtype (dtype y)) (= r (rank x)) (> r 0) => (set (dtype e) "float32")
(= e (Mul x (Scalar a))) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x y)) (= s (shape x)) (= s (shape y)) (= d (dtype x)) (= d (dtype y)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (View s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (Expand s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
"""  # noqa: E501

# What the int8 kernels need to know about their operands.
_KERNEL = """
(= e (Gemm k x (Dequantize w q t) b)) (= b (Nothing)) => (bias-fits b w)
(= e (Gemm k x (Dequantize w q t) b)) (= v (shape w)) (= n (vec-get v 0)) (= (shape b) (vec-of n)) (float-dtype (dtype b)) => (bias-fits b w)
(= e (QGemm k x qx w qw b o qo f (Real "float32"))) => (from-accumulator e)
(= e (Moved m x)) (from-accumulator x) => (from-accumulator e)
(= e (QGemm k x qx w qw b o qo (Fn "identity" 0.0 0.0) (Real "float32"))) => (absorbs e)
(= e (Cast x d)) (absorbs x) => (absorbs e)
(= e (Moved m x)) (absorbs x) => (absorbs e)
(= e (Moved m w)) (= 2 (rank w)) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Moved m x)) (stacks x w) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Quantize x (PerTensor s z lo hi d))) (>= lo 0) (< hi 128) => (below-128 e)
(= e (Quantize x (Dynamic s z lo hi d))) (>= lo 0) (< hi 128) => (below-128 e)
(= e (Moved m x)) (below-128 x) => (below-128 e)
(= e (MaxPool x a b c d f)) (below-128 x) => (below-128 e)
"""  # noqa: E501

_EXACT_HERE = "(= e (Dequantize x q t)) (per-tensor q) => (exact-here x q)"
_EXACT_BELOW_128 = "(= e (Dequantize x q t)) (per-tensor q) (below-128 x) => (exact-here x q)"

RULESET = "facts"


def statements() -> Iterator[str]:
    """egglog text of all declarations, tables and derivations."""
    yield from DECLARATIONS.strip().splitlines()
    yield f"(ruleset {RULESET})"
    for dtype, (low, high) in RANGES.items():
        yield f'(set (dtype-low "{dtype}") {low})'
        yield f'(set (dtype-high "{dtype}") {high})'
    for dtype in FLOATS:
        yield f"(float-dtype {_quoted(dtype)})"
    for dtype in FLOATS[1:]:
        yield f"(half-dtype {_quoted(dtype)})"
    for row in accepting():
        yield f"(accepts {' '.join(map(_quoted, row))})"
    for name in optional_kernels():
        yield f"(present {_quoted(name)})"
    for row in ACTIVATIONS:
        yield f"(reads {' '.join(map(_quoted, row))})"
    lines = [*_DATA.splitlines(), *_TENSORS.splitlines(), *_KERNEL.splitlines(), *_permuted_shapes()]
    lines.append(_EXACT_HERE if adds_in_32_bits() else _EXACT_BELOW_128)
    for number, line in enumerate(filter(None, lines)):
        body, _, head = line.partition(" => ")
        yield f'(rule ({body}) ({head}) :ruleset {RULESET} :name "fact-{number}")'


def _permuted_shapes() -> Iterator[str]:
    """shape(permute(p, x))[i] = shape(x)[p[i]], written out for each rank: egglog has no map over vectors."""
    for rank in range(1, 7):
        dims = " ".join(f"(vec-get s (vec-get p {i}))" for i in range(rank))
        yield (
            f"(= e (Moved (Permute p) x)) (= {rank} (vec-length p)) (= s (shape x)) (= d (dtype x)) "
            f"(= y (vec-of {dims})) => (set (shape e) y) (set (dtype e) d)"
        )


def _quoted(text: str) -> str:
    return f'"{text}"'
