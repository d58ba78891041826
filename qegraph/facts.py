"""Facts about e-classes that guards read: declarations, and the rules that derive them.

`dtype` and `shape` may never be set to two different values (`:no-merge`): an unsound rule is caught here.
"""

from __future__ import annotations

from collections.abc import Iterator

from qegraph.kernels import ACTIVATIONS, MAX_REDUCTION, WEIGHT_ONLY_DEPTH, accepted, adds_in_32_bits, optional_kernels

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
(relation absorbs (T))
(relation stacks (T T))
(relation finite (T))
(relation scalable (T))
(relation one-element (T))
(relation per-output (T i64 i64))
(relation weight-only-fits (T String))
(relation accepts (String String String String))
(relation reads (String String))
(function spatial-dims (K) i64 :no-merge)
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
(= q (Dynamic s z lo hi d)) => (set (q-dtype q) d) (set (storage q) "codes")
(= q (Scaled p c)) (= d (q-dtype p)) => (set (q-dtype q) d)
(= q (Real d)) => (set (storage q) "real")
(= q (Absent)) => (set (storage q) "absent")
(= k (Linear)) => (set (kind-name k) "linear") (set (spatial-dims k) 0)
(= k (Conv s p d g)) (= n (vec-length s)) => (set (spatial-dims k) n)
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
(= e (Floats x t)) (= s (shape x)) => (set (shape e) s) (set (dtype e) t)
(= e (WeightOnly x w c)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (IntMatmul x y z)) (= s (shape x)) (= v (shape y)) (= r (vec-push (vec-pop s) (vec-get v 1))) => (set (shape e) r) (set (dtype e) "int32")
(= e (Unary f x)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Gemm (Linear) x w b)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (Mul x (Scalar a))) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x y)) (= s (shape x)) (= s (shape y)) (= d (dtype x)) (= d (dtype y)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x c)) (= n (last-dim x)) (= (shape c) (vec-of n)) (= s (shape x)) (= d (dtype x)) (= d (dtype c)) => (set (shape e) s) (set (dtype e) d)
(= e (Add x c)) (= n (last-dim x)) (= (shape c) (vec-of n)) (= s (shape x)) (= d (dtype x)) (= d (dtype c)) => (set (shape e) s) (set (dtype e) d)
(= e (Cat x y k)) (= s (shape x)) (= t (shape y)) (= a (vec-get s k)) (= b (vec-get t k)) (>= a 0) (>= b 0) (= d (dtype x)) (= d (dtype y)) (= r (vec-set s k (+ a b))) => (set (shape e) r) (set (dtype e) d)
(= e (Moved (View s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (Expand s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
"""  # noqa: E501

# Constants: what is known when the graph is emitted, and where they stand for output channels.
_CONSTANTS = f"""
(= e (Nothing)) => (constant e)
(= e (Floats x t)) (constant x) => (constant e)
(= e (Moved m x)) (constant x) => (constant e)
(= e (Cat x y d)) (constant x) (constant y) => (constant e)
(= e (Product x c)) (constant x) (constant c) => (constant e)
(= e (Total x c)) (constant x) (constant c) => (constant e)
(constant e) (= (dtype e) "int8") (= s (shape e)) (= 2 (vec-length s)) (<= (vec-get s 1) {MAX_REDUCTION}) => (accumulates e)
(= (shape e) (vec-empty)) => (one-element e)
(= (shape e) (vec-of 1)) => (one-element e)
(= (shape e) (vec-of 1 1)) => (one-element e)
(constant w) (= (dtype w) "int8") (= 2 (rank w)) => (weight-only-fits w "float32") (weight-only-fits w "float16")
(constant w) (= (dtype w) "int8") (= 2 (rank w)) (= 0 (% (last-dim w) {WEIGHT_ONLY_DEPTH})) => (weight-only-fits w "bfloat16")
(= e (Gemm (Linear) x (Floats w t) (Nothing))) (constant w) (= (dtype w) "int8") => (scalable e)
(absorbs e) => (scalable e)
(= e (Mul x y)) (absorbs x) (= (shape x) (shape e)) => (scalable e)
(= e (Floats x t)) (scalable x) => (scalable e)
(= e (Gemm k x (Floats w t) b)) (= b (Nothing)) => (bias-fits b w)
(= e (Gemm k x (Floats w t) b)) (= v (shape w)) (= n (vec-get v 0)) (= (shape b) (vec-of n)) (= (dtype b) "float32") => (bias-fits b w)
"""  # noqa: E501

# What the int8 kernels need to know about their operands.
_KERNEL = """
(= e (Gemm k x (Dequantize w q t) b)) (= b (Nothing)) => (bias-fits b w)
(= e (Gemm k x (Dequantize w q t) b)) (= v (shape w)) (= n (vec-get v 0)) (= (shape b) (vec-of n)) (= (dtype b) "float32") => (bias-fits b w)
(= e (QGemm k x qx w qw b o qo (Fn "identity" 0.0 0.0) (Real d))) => (absorbs e)
(= e (Moved m x)) (absorbs x) => (absorbs e)
(= e (Moved m w)) (= 2 (rank w)) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Moved m x)) (stacks x w) (= s (shape w)) (= t (shape e)) (= n (vec-length t)) (> n 2) (= (vec-get s 0) (vec-get t (- n 2))) (= (vec-get s 1) (vec-get t (- n 1))) => (stacks e w)
(= e (Quantize x (PerTensor s z lo hi d))) (>= lo 0) (< hi 128) => (below-128 e)
(= e (Moved m x)) (below-128 x) => (below-128 e)
(= e (MaxPool x a b c d f)) (below-128 x) => (below-128 e)
"""  # noqa: E501

# An integer product is one of codes with scale 1; the terms are made so that guards find facts about them.
_INTEGER_CODES = "(PerTensor 1.0 z lo hi d)"
_INTEGER = (
    "(= e (IntMatmul x y z)) (constant y) (= d (dtype x)) (= lo (dtype-low d)) (= hi (dtype-high d)) => "
    f"(exact-here x {_INTEGER_CODES}) (constant (Moved (Permute (vec-of 1 0)) y))"
)

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
    for row in accepted():
        yield f"(accepts {' '.join(map(_quoted, row))})"
    for name in optional_kernels():
        yield f"(present {_quoted(name)})"
    for row in ACTIVATIONS:
        yield f"(reads {' '.join(map(_quoted, row))})"
    lines = [
        *_DATA.splitlines(),
        *_TENSORS.splitlines(),
        *_CONSTANTS.splitlines(),
        *_KERNEL.splitlines(),
        *_permuted_shapes(),
        *_per_output(),
    ]
    lines += [_EXACT_HERE, _INTEGER] if adds_in_32_bits() else [_EXACT_BELOW_128]
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


def _per_output() -> Iterator[str]:
    """`per-output c d n`: the constant c has n numbers, along the one dim that d dims stand behind."""
    for before in range(3):
        for behind in range(4):
            ones = "".join(f" (= 1 (vec-get s {i}))" for i in range(before + behind + 1) if i != before)
            yield (
                f"(constant c) (= s (shape c)) (= {before + behind + 1} (vec-length s)) (= n (vec-get s {before}))"
                f"{ones} => (per-output c {behind} n)"
            )


def _quoted(text: str) -> str:
    return f'"{text}"'
