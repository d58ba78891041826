"""Facts about e-classes that guards read: declarations, and the rules that derive them.

`dtype` and `shape` may never be set to two different values (`:no-merge`): an unsound rule is caught here.
"""

from __future__ import annotations

from collections.abc import Iterator

from qegraph.kernels import WEIGHTS, accepted, activations, adds_in_32_bits, optional_kernels

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
(relation sums-rows (String))
(relation joins (String))
(function layout (Q) Dims :no-merge)
(relation attends (String))
(function place (T) i64 :merge (max old new))
(function parts (T) i64 :merge (min old new))
(function next-sibling (K T Q F Q i64) i64 :merge (min old new))
(relation stacks (T T))
(relation accepts (String String String String))
(relation reads (String String))
(relation reads-weights (String String))
(relation stores (String String))
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
(= q (Float8 s)) => (set (q-dtype q) "float8_e4m3fn") (set (storage q) "float8") (per-tensor q) (along-outputs q) (symmetric q) (spans-dtype q)
(= q (Float8 s)) (> s 0.0) (< s 1e30) => (positive q)
(= q (JoinedParams p r n m)) (= d (q-dtype p)) => (set (q-dtype q) d) (set (storage q) "codes-per-channel")
(= q (Real d)) => (set (storage q) "real")
(= q (Absent)) => (set (storage q) "absent")
(= q (PerTensor s z lo hi d)) (= l (vec-empty)) => (set (layout q) l)
(= q (PerChannel s z a lo hi d)) (= l (vec-empty)) => (set (layout q) l)
(= q (Float8 s)) (= l (vec-empty)) => (set (layout q) l)
(= q (Blocks4 s z c)) (= t (shape s)) (= l (vec-set t 0 1)) => (set (layout q) l)
(= q (JoinedParams p r n m)) (= l (layout p)) => (set (layout q) l)
(= k (Linear)) => (set (kind-name k) "linear")
(= k (Linear4)) => (set (kind-name k) "linear4")
(= k (Conv s p d g)) (= 1 (vec-length s)) => (set (kind-name k) "conv1d")
(= k (Conv s p d g)) (= 2 (vec-length s)) => (set (kind-name k) "conv2d")
(= k (Conv s p d g)) (= 3 (vec-length s)) => (set (kind-name k) "conv3d")
(= f (Fn n a b)) => (set (fn-name f) n)
"""  # noqa: E501

# Shapes and dtypes of values that rules introduce.
_TENSORS = """
(= s (shape x)) => (set (rank x) (vec-length s))
(= s (shape x)) (= n (vec-length s)) (> n 0) (= d (vec-get s (- n 1))) => (set (last-dim x) d)
(= e (Quantize x q)) (= s (shape x)) (= d (q-dtype q)) => (set (shape e) s) (set (dtype e) d)
(= e (Dequantize x q t)) (= s (shape e)) (= d (q-dtype q)) => (set (shape x) s) (set (dtype x) d)
(= e (Dequantize x q t)) (= s (shape x)) => (set (shape e) s) (set (dtype e) t)
(= e (Filled s v t)) => (set (shape e) s) (set (dtype e) t) (constant e)
(= e (Joined x y n m)) => (constant e)
(= e (Joined x y n m)) (= s (shape x)) (= d (dtype x)) (= t (vec-set s 0 (+ n m))) => (set (shape e) t) (set (dtype e) d)
(= e (Joined x y n m)) (= s (shape y)) (= d (dtype y)) (= t (vec-set s 0 (+ n m))) => (set (shape e) t) (set (dtype e) d)
(= e (QGemm (Linear) x qx w qw b o qo f (Real d))) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (QGemm (Linear) x qx w qw b o qo f (PerTensor c z l h d))) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (Softmax x c m)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (QBinary f x qx y qy q)) (= s (shape x)) (= d (q-dtype q)) => (set (shape e) s) (set (dtype e) d)
(= e (QGemm (Linear4) x qx w qw b o qo f (Real d))) (= s (shape x)) (= v (shape w)) (= y (vec-push (vec-pop s) (* 2 (* (vec-get v 0) (vec-get v 3))))) => (set (shape e) y) (set (dtype e) d)
(= e (Part x a n)) (= s (shape x)) (= d (dtype x)) (= t (vec-push (vec-pop s) n)) => (set (shape e) t) (set (dtype e) d)
(= e (Flip x)) (= s (shape x)) => (set (shape e) s) (set (dtype e) "uint8")
(= e (Unary f x)) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Gemm (Linear) x w b)) (= s (shape x)) (= v (shape w)) (= d (dtype x)) (= y (vec-push (vec-pop s) (vec-get v 0))) => (set (shape e) y) (set (dtype e) d)
(= e (Mul x (Scalar a))) (= s (shape x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Mul x y)) (= s (shape x)) (= s (shape y)) (= d (dtype x)) (= d (dtype y)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (View s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
(= e (Moved (Expand s) x)) (= d (dtype x)) => (set (shape e) s) (set (dtype e) d)
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

# Linears on the same codes, in the order of the source: `place` is an e-class's last source value, that of a joined one
# its last part's; `parts` is how many linears of the source a weight is of.
_SIBLINGS = """
(= e (N i)) (= e (QGemm k x qx w qw b (Nothing) (Absent) f q)) (joins (kind-name k)) => (set (place e) i) (set (parts w) 1)
(= e (Part x a n)) (= i (place e)) => (set (place x) i)
(= e (Joined w v n m)) (= a (parts w)) (= b (parts v)) => (set (parts e) (+ a b))
(= i (place e)) (= e (N i)) (= j (place g)) (= g (N j)) (= e (QGemm k x qx w qw b (Nothing) (Absent) f q)) (= g (QGemm k x qx v qv c (Nothing) (Absent) f q)) (< i j) => (set (next-sibling k x qx f q i) j)
"""  # noqa: E501

_FLOAT8 = "(= e (Dequantize x q t)) (= q (Float8 s)) => (exact-here x q)"
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
    yield "(constant (Nothing))"
    yield from (f'(sums-rows "{dtype}")' for dtype in ("int8", "float8_e4m3fn"))
    yield from (f'(attends "{dtype}")' for dtype in ("uint8", "float8_e4m3fn"))
    yield '(joins "linear")'
    for name in optional_kernels():
        yield f"(present {_quoted(name)})"
        if name == "da8w4_linear":
            yield '(joins "linear4")'
    for kind, dtype in activations():
        yield f"(reads {_quoted(kind)} {_quoted(dtype)})"
    for dtype, weight in WEIGHTS:
        yield f"(reads-weights {_quoted(dtype)} {_quoted(weight)})"
    for storage in ("codes", "float8"):
        yield f"(stores {_quoted(storage)} {_quoted(storage)})"
    lines = [
        *_DATA.splitlines(),
        *_TENSORS.splitlines(),
        *_KERNEL.splitlines(),
        *_SIBLINGS.splitlines(),
        *_permuted_shapes(),
    ]
    lines += [_FLOAT8, _EXACT_HERE if adds_in_32_bits() else _EXACT_BELOW_128]
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
